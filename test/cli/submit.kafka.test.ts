// Jobs files for workers over Kafka: the lines and pictures of batch, and only what is left to do when it is called again.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { requestOptions } from "../../src/cli/settings/submit-options.js";
import { jsonName } from "../../src/edit/parameters/parameter.js";
import { encodePicture } from "../../src/image/io/write.js";
import { avroSchemas } from "../../src/server/kafka/avro-schemas.js";
import { openTestClient } from "../server/kafka/kafka-client.js";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, expectRefusal, qedit, ROCKET, workFolder } from "./qedit.js";

const brokers = inject("kafkaBrokers");
const folder = workFolder();
const store = folder.at("store");
let worker: TestServer;
beforeAll(async () => {
  await (await openTestClient(brokers)).close();
  mkdirSync(folder.at("worker"));
  worker = await startServer({
    folder: folder.at("worker"),
    args: ["--kafka", brokers, "--store", store, "--no-cache"],
  });
});
afterAll(() => worker?.stop());

const SEED = "18446744073709551615";
const small = { megapixels: 0.005, steps: 2 };
const jobs = [
  { images: [CAT], prompt: "make it sepia", output: "sepia.png", seed: SEED, ...small },
  { images: [ROCKET], output: "rocket.jpg", size: "64x64", steps: 2 },
  { images: [CAT], prompt: "make it winter", output: "winter.png", model: "nobody", ...small },
  { images: ["missing.png"], prompt: "make it sepia", output: "missing.png" },
  { images: [CAT], prompt: "make it sepia", output: "vae.png", vae: "vae.safetensors" },
];
const env = { XDG_STATE_HOME: folder.at("state") };
const submit = (...args: string[]) =>
  qedit(["submit", "jobs.jsonl", "--kafka", brokers, "--store", store, ...args], { cwd: folder.path, env });
const results = (stdout: string) =>
  stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .sort((a, b) => Number(a["job"]) - Number(b["job"]));
const started = () => worker.log.filter(({ msg }) => /^job \S+ started$/.test(msg)).length;

test("submit writes the pictures of run and the lines of batch; resumed, only what is not done is asked for", async () => {
  writeFileSync(folder.at("jobs.jsonl"), `${jobs.map((job) => JSON.stringify(job)).join("\n")}\n`);
  const ended = await submit("--wait", "-p", "mirror it", "-q");
  expect(ended.code, ended.stderr).toBe(6);
  expect(ended.stderr).toMatch(/3 of 5 jobs failed/);
  const lines = results(ended.stdout);
  expect(lines).toMatchObject([
    {
      job: 1,
      line: 1,
      status: "done",
      output: expect.stringContaining("sepia.png"),
      seed: "18446744073709551615",
      seconds: expect.any(Number),
    },
    { job: 2, status: "done", output: expect.stringContaining("rocket.jpg"), seed: "0" },
    { job: 3, status: "failed", error: { message: expect.stringContaining("nobody") } },
    { job: 4, status: "failed", error: { code: "QEDIT_E_IMAGE" } },
    { job: 5, status: "failed", error: { code: "QEDIT_E_USAGE", message: expect.stringContaining('"vae" in line 5') } },
  ]);
  const run = ["run", "--model", "tiny", "--device", "cpu", "--threads", "1", "--steps", "2"];
  await qedit(
    [...run, CAT, "-p", "make it sepia", "--megapixels", "0.005", "--seed", "18446744073709551615", "-o", "run.png"],
    { cwd: folder.path },
  );
  await qedit([...run, ROCKET, "-p", "mirror it", "--size", "64x64", "-o", "run.jpg"], { cwd: folder.path });
  expect(readFileSync(folder.at("sepia.png")).equals(readFileSync(folder.at("run.png")))).toBe(true);
  expect(readFileSync(folder.at("rocket.jpg")).equals(readFileSync(folder.at("run.jpg")))).toBe(true);

  const before = started();
  const resumed = results((await submit("--wait", "--resume", "-p", "mirror it")).stdout);
  expect(resumed.map(({ status }) => status)).toEqual(["skipped", "skipped", "failed", "failed", "failed"]);
  const again = results((await submit("--wait", "--force", "-p", "mirror it")).stdout);
  expect(again.map(({ status }) => status)).toEqual(["done", "done", "failed", "failed", "failed"]);
  expect(started()).toBe(before);
});

describe("by a workflow of stages", () => {
  const workflow = ["--workflow", "encode-image,encode-prompt,sample,decode"];
  const [one, failing] = [jobs[0]!, jobs[2]!];
  const masked = {
    images: [CAT, ROCKET],
    prompt: "mirror it",
    output: "masked.png",
    mask: "mask.png",
    paste_back: true,
  };
  let stages: readonly TestServer[];
  beforeAll(async () => {
    const args = ["--kafka", brokers, "--store", store, "--no-cache"];
    const works = ["encode-image,decode", "encode-prompt", "sample"];
    for (const name of works) mkdirSync(folder.at(name));
    stages = await Promise.all(
      works.map((name) => startServer({ folder: folder.at(name), args: [...args, "--stages", name] })),
    );
    writeFileSync(folder.at("mask.png"), await leftHalf());
  });
  afterAll(async () => {
    for (const each of stages) await each.stop();
  });

  test("submit writes the pictures of run and the same lines; resumed, only what is not done is asked for", async () => {
    const lines = [
      { ...one, output: "staged.png" },
      { ...masked, ...small },
      { ...failing, output: "staged-2.png" },
    ];
    writeFileSync(folder.at("jobs.jsonl"), `${lines.map((job) => JSON.stringify(job)).join("\n")}\n`);
    const ended = await submit("--wait", "-q", ...workflow);
    expect(ended.code, ended.stderr).toBe(6);
    expect(results(ended.stdout)).toMatchObject([
      {
        job: 1,
        status: "done",
        output: expect.stringContaining("staged.png"),
        seed: SEED,
        drift: expect.anything(),
      },
      { job: 2, status: "done", seed: "0", seconds: expect.any(Number) },
      { job: 3, status: "failed", error: { code: "QEDIT_E_USAGE", message: expect.stringContaining("nobody") } },
    ]);
    const run = [
      "run",
      "--model",
      "tiny",
      "--device",
      "cpu",
      "--threads",
      "1",
      "--steps",
      "2",
      "--megapixels",
      "0.005",
    ];
    await qedit([...run, CAT, "-p", "make it sepia", "--seed", SEED, "-o", "alone.png"], { cwd: folder.path });
    const paste = ["--paste-back", "--mask", "mask.png"];
    await qedit([...run, CAT, ROCKET, "-p", "mirror it", ...paste, "-o", "alone-2.png"], { cwd: folder.path });
    expect(readFileSync(folder.at("staged.png")).equals(readFileSync(folder.at("alone.png")))).toBe(true);
    expect(readFileSync(folder.at("masked.png")).equals(readFileSync(folder.at("alone-2.png")))).toBe(true);
    const resumed = results((await submit("--wait", "--resume", ...workflow)).stdout);
    expect(resumed.map(({ status }) => status)).toEqual(["skipped", "skipped", "failed"]);
  });
});

test.each([
  ["encode-image,encode-prompt,sample", /makes no picture/],
  ["sample,decode", /sample lacks latents/],
  ["run,decode", /run is a whole edit/],
])("the workflow %s is refused before anything is sent", async (workflow, message) => {
  expectRefusal(await submit("--workflow", workflow), { code: 2, message, hint: /encode-image/ });
});

test("without waiting it prints an id for each job", async () => {
  writeFileSync(folder.at("jobs.jsonl"), `${JSON.stringify({ ...jobs[0], output: "later.png" })}\n`);
  const { code, stdout } = await submit();
  expect(code).toBe(0);
  expect(results(stdout)).toEqual([
    {
      job: 1,
      line: 1,
      status: "submitted",
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      output: expect.stringContaining("later.png"),
    },
  ]);
});

test("submit needs brokers", async () => {
  const ended = await qedit(["submit", "jobs.jsonl"], { cwd: folder.path });
  expectRefusal(ended, { code: 2, message: /No --kafka was given/, hint: /--kafka/ });
});

test("every setting that submit takes has its field in the schema of requests", () => {
  const { fields } = avroSchemas()["run.request"] as {
    fields: { name: string; type: { fields: { name: string }[] } }[];
  };
  const names = fields.find(({ name }) => name === "parameters")!.type.fields.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(Object.keys(requestOptions).map(jsonName)));
});

async function leftHalf(): Promise<Uint8Array> {
  const [width, height] = [60, 40];
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) data.fill(255, y * width * 3, (y * width + width / 2) * 3);
  return encodePicture({ width, height, data }, { format: "png" });
}
