// Workers of single stages against a real broker: the bytes of the command line, each stage once, whatever is sent and whoever is killed.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from "vitest";
import { encodePicture } from "../../../src/image/io/write.js";
import type { StageRequest } from "../../../src/server/kafka/kafka-messages.js";
import { requestTopic, TOPICS } from "../../../src/server/kafka/kafka-topics.js";
import { STAGES, type StageName } from "../../../src/stages/stage.js";
import { CAT, qedit, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { openTestClient, pictureOf, SMALL, type TestClient } from "./kafka-client.js";
import { sendStage, stageAnswers, stageRequestOf } from "./stage-client.js";

const brokers = inject("kafkaBrokers");
const folder = temporaryFolder();
const store = folder.at("store");
const clients: TestClient[] = [];
const workers: TestServer[] = [];
afterAll(async () => {
  for (const worker of workers) await worker.stop("SIGTERM");
  for (const client of clients) await client.close();
});

async function opened(): Promise<TestClient> {
  const client = await openTestClient(brokers);
  clients.push(client);
  return client;
}

async function worker(stages: string, ...args: string[]): Promise<TestServer> {
  const own = folder.at(`worker-${randomUUID()}`);
  mkdirSync(own);
  const kafka = ["--kafka", brokers, "--store", store, "--retry-delays", "300ms,300ms", "--stages", stages];
  const started = await startServer({ folder: own, args: [...kafka, "--no-cache", ...args] });
  workers.push(started);
  return started;
}

/** How often a stage of a job was computed, by all workers that were ever started. */
const started: TestServer[] = [];
const computed = (id: string, stage: StageName) =>
  started.flatMap(({ log }) => log.filter(({ msg }) => msg.startsWith(`job ${id}: ${stage} computed`))).length;
const texts = (values: object) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
/** Settings that no other test has, so that every stage is computed. */
const AGAIN = { prompt: "mirror it", megapixels: 0.006 };
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

async function four(): Promise<readonly TestServer[]> {
  const all = [];
  for (const stage of STAGES) all.push(await worker(stage));
  started.push(...all);
  return all;
}

describe("four workers of a stage each", () => {
  beforeAll(async () => {
    await opened();
    await four();
  });
  afterAll(async () => {
    for (const each of workers.splice(0)) await each.stop("SIGTERM");
  });

  test("make the bytes of the command line, of one and two pictures, with a mask, and in another format", async () => {
    const own = await opened();
    const edits: readonly { images: string[]; given: Record<string, unknown>; mask?: string; flags?: object }[] = [
      { images: [CAT], given: SMALL },
      { images: [CAT, ROCKET], given: { ...SMALL, seed: "18446744073709551615", cfg: 2.5, negative_prompt: "rain" } },
      { images: [CAT], given: { ...SMALL, paste_back: true, feather: 3 }, mask: "half.png" },
      { images: [CAT], given: { ...SMALL, crop_mask: true, mask_margin: 8 }, mask: "half.png" },
      { images: [CAT], given: { ...SMALL, keep_size: true, format: "jpg", jpeg_quality: 80, no_metadata: true } },
    ];
    const mask = await halfMask();
    const ids = edits.map(() => randomUUID());
    for (const [index, { images, given, mask: name }] of edits.entries()) {
      const request = stageRequestOf(ids[index]!, images, given);
      await sendStage(own, { ...request, mask: name === undefined ? null : { name, data: readFileSync(mask) } });
    }
    const answers = await stageAnswers(own, ids);
    for (const [index, { images, given, mask: name }] of edits.entries()) {
      const answer = answers.get(ids[index]!)![0]!;
      expect(answer).toMatchObject({ status: "completed", error: null, envelope: { cursor: 4 } });
      const alone = await ran(images, { ...texts(given), ...(name && { mask }) }, folder);
      expect(pictureOf(answer).equals(alone), `edit ${index}`).toBe(true);
      expect(Object.keys(answer.seconds).sort()).toEqual([...STAGES].sort());
      expect(Object.keys(answer.result!.seconds).sort()).toEqual([...STAGES].sort());
      expect(answer.result!.seed).toBe(String(given["seed"]));
      // What another one of these edits has made already is not computed again.
      expect(computed(ids[index]!, "decode")).toBe(1);
    }
    expect(computed(ids[0]!, "encode-image") + computed(ids[2]!, "encode-image")).toBe(1);
  });

  test("compute nothing twice when a message comes again, and say what they do", async () => {
    const own = await opened();
    const id = randomUUID();
    const request = stageRequestOf(id, [CAT], { ...SMALL, ...AGAIN, seed: "random" });
    await sendStage(own, request);
    const first = (await stageAnswers(own, [id])).get(id)![0]!;
    const sent = await own.messages(requestTopic("sample"), (all) => all.some(({ key }) => key!.toString() === id));
    const again = sent.find(({ key }) => key!.toString() === id)!;
    await own.kafka.produce({ topic: again.topic, key: id, value: again.value });
    await sendStage(own, request);
    const [, ...later] = (await stageAnswers(own, [id], { count: 3 })).get(id)!;
    for (const each of later) expect(each.result).toEqual(first.result);
    for (const stage of STAGES) expect(computed(id, stage), stage).toBe(1);
    const alone = await ran([CAT], texts({ ...SMALL, ...AGAIN, seed: first.result!.seed }), folder);
    expect(pictureOf(first).equals(alone)).toBe(true);
    const states = new Set<string>();
    await own.messages(TOPICS.progress, async (all) => {
      const { job_id: job, state, stage } = await own.codec.decode("progress", all.at(-1)!.value);
      if (job === id) states.add(`${state} ${stage ?? ""}`);
      return state === "completed" && job === id;
    });
    for (const stage of STAGES) expect([...states]).toContain(`running ${stage}`);
  });

  test("put pictures into the store that would make the next message too large, and bury what is too large without them", async () => {
    const own = await opened();
    const [large, hopeless] = [randomUUID(), randomUUID()];
    const bytes = await noise();
    expect(bytes.length).toBeGreaterThan(600_000);
    await sendStage(own, stageRequestOf(large, [{ name: "noise.png", data: bytes }], SMALL));
    // As large as a message may be: with the reason on top, the answer is larger.
    const endless = stageRequestOf("endless", [], SMALL, ["encode-image", ""]);
    const room = 1024 ** 2 - 200 - own.codec.encode("encode-image.request", endless).length;
    await sendStage(own, {
      ...endless,
      envelope: { ...endless.envelope, workflow: ["encode-image", "x".repeat(room)] },
    });
    const many = Array.from({ length: 990 }, (_, index) => `${"x".repeat(995)}${index}`);
    await sendStage(own, stageRequestOf(hopeless, [ROCKET], { ...SMALL, prompt: "x".repeat(30_000), lora: many }));
    const answers = await stageAnswers(own, [large, hopeless]);
    expect(answers.get(large)![0]).toMatchObject({ status: "completed" });
    expect(answers.get(hopeless)![0]).toMatchObject({ status: "failed", error: { code: "QEDIT_E_USAGE" } });
    expect(answers.get(hopeless)![0]!.error!.message).toMatch(
      /Cannot write \d+ bytes to qedit.encode-prompt.request.v1/,
    );
    await own.messages(TOPICS.dlq, (all) => all.some(({ key }) => key!.toString() === "endless"));
    expect(started.flatMap(({ log }) => log.map(({ msg }) => msg))).toContainEqual(
      expect.stringMatching(/^job endless is not answered: Cannot write \d+ bytes/),
    );
    const [next] = await own.messages(requestTopic("sample"), (all) => all.at(-1)!.key!.toString() === large);
    const { images } = await own.codec.decode("sample.request", next!.value);
    expect(images).toMatchObject([{ name: "noise.png", data: { sha256: sha256(bytes), size: bytes.length } }]);
  });

  test("end a workflow early with its artifacts, which the command line and a late entry go on with", async () => {
    const own = await opened();
    const [early, late, last] = [randomUUID(), randomUUID(), randomUUID()];
    await sendStage(own, stageRequestOf(early, [CAT], SMALL, ["encode-prompt", "encode-image"]));
    const encoded = (await stageAnswers(own, [early], { last: "encode-image" })).get(early)![0]!;
    expect(encoded).toMatchObject({ status: "completed", result: null });
    expect(encoded.artifacts.map(({ kind }) => kind)).toEqual(["cond", "latents"]);

    const files = Object.fromEntries(encoded.artifacts.map(({ kind, file }) => [kind, new URL(file.uri).pathname]));
    const flags = ["--model", "tiny", "--device", "cpu", "--threads", "1", "--steps", "2", "--seed", "7"];
    const inputs = ["--latents", files["latents"]!, "--cond", files["cond"]!];
    const sampled = await qedit(["sample", ...inputs, ...flags, "-o", "samples.safetensors"], { cwd: folder.path });
    expect(sampled.code, sampled.stderr).toBe(0);

    const { artifacts } = encoded;
    await sendStage(own, { ...stageRequestOf(late, [], SMALL, ["sample"]), artifacts });
    const samples = (await stageAnswers(own, [late], { last: "sample" })).get(late)![0]!.artifacts;
    expect(samples.map(({ kind }) => kind)).toEqual(["cond", "latents", "samples"]);
    expect(readFileSync(new URL(samples[2]!.file.uri)).equals(readFileSync(folder.at("samples.safetensors")))).toBe(
      true,
    );

    await sendStage(own, { ...stageRequestOf(last, [CAT], SMALL, ["decode"]), artifacts: samples.slice(2) });
    const answer = (await stageAnswers(own, [last])).get(last)![0]!;
    expect(pictureOf(answer).equals(await ran([CAT], texts(SMALL), folder))).toBe(true);
  });

  test("send what cannot be done to the dead letters, with the topic of its stage and its code, and go on", async () => {
    const own = await opened();
    const id = randomUUID();
    await sendStage(own, stageRequestOf(id, [CAT], SMALL, ["encode-image", "encode-prompt"]));
    const { artifacts } = (await stageAnswers(own, [id], { last: "encode-prompt" })).get(id)![0]!;
    const [latents, cond] = artifacts as [(typeof artifacts)[0], (typeof artifacts)[0]];
    const copy = (name: string, bytes: Uint8Array) => {
      writeFileSync(`${store}/${name}`, bytes);
      return { uri: `file://${store}/${name}`, sha256: sha256(bytes), size: bytes.length };
    };
    const whole = readFileSync(new URL(latents.file.uri));
    const damaged = Buffer.from(whole);
    damaged[whole.length - 1]! ^= 0x7f;
    const missing = { ...copy("gone.safetensors", whole) };
    rmSync(`${store}/gone.safetensors`);
    const sampling = (name: string, file: object): StageRequest => ({
      ...stageRequestOf(name, [], SMALL, ["sample", "decode"]),
      artifacts: [{ ...latents, file: { ...latents.file, ...file } }, cond],
    });
    const of = (name: string, ...workflow: string[]) => stageRequestOf(name, [CAT], SMALL, workflow);
    const cut = copy("cut.safetensors", whole.subarray(0, 300));
    writeFileSync(`${store}/damaged.safetensors`, damaged);
    const poison: readonly (readonly [StageRequest, string, RegExp])[] = [
      [sampling("missing", missing), "QEDIT_E_ARTIFACT", /is not there/],
      [sampling("damaged", { uri: `file://${store}/damaged.safetensors` }), "QEDIT_E_ARTIFACT", /SHA-256/],
      [sampling("cut", cut), "QEDIT_E_ARTIFACT", /Cannot|wanted/],
      [sampling("picture", copy("cat.jpg", readFileSync(CAT))), "QEDIT_E_ARTIFACT", /./],
      [sampling("outside", { uri: "file:///etc/passwd" }), "QEDIT_E_ARTIFACT", /no file of the store/],
      [sampling("other-kind", cond.file), "QEDIT_E_ARTIFACT", /it holds cond/],
      [of("lacks", "encode-image", "sample"), "QEDIT_E_USAGE", /sample lacks cond, which encode-prompt makes/],
      [of("unknown", "encode-image", "upscale"), "QEDIT_E_USAGE", /no stage "upscale"/],
      [
        { ...of("twice", "encode-image", "sample"), artifacts },
        "QEDIT_E_USAGE",
        /latents, which the request has already/,
      ],
      [of("empty", "encode-prompt"), "QEDIT_E_USAGE", /empty prompt/],
      [of("no-model", "encode-image"), "QEDIT_E_USAGE", /nobody/],
      [{ ...sampling("agreed", {}), settings: '{"steps":20}' }, "QEDIT_E_USAGE", /steps is 2 here, and was 20/],
    ];
    const change: Record<string, object> = { empty: { prompt: " " }, "no-model": { model: "nobody" } };
    for (const [request] of poison) {
      const { parameters, envelope } = request;
      await sendStage(own, { ...request, parameters: { ...parameters, ...change[envelope.job_id] } });
    }
    const dead = await own.messages(TOPICS.dlq, (all) => all.length === poison.length);
    for (const [{ envelope }, code, reason] of poison) {
      const letter = dead.find(({ key }) => key!.toString() === envelope.job_id)!;
      const headers = Object.fromEntries(letter.headers.map(([name, bytes]) => [name, bytes.toString()]));
      const stage = envelope.workflow[0] as StageName;
      expect(headers, envelope.job_id).toMatchObject({ "x-error-code": code, "x-original-topic": requestTopic(stage) });
      expect(headers["x-error-message"]).toMatch(reason);
    }
    const failed = await stageAnswers(own, ["missing", "agreed"]);
    expect(failed.get("missing")![0]).toMatchObject({ status: "failed", error: { code: "QEDIT_E_ARTIFACT" } });

    const dlq = (...args: string[]) => qedit(["kafka", "dlq", ...args, "--kafka", brokers], { cwd: folder.path });
    const letter = dead.find(({ key }) => key!.toString() === "agreed")!;
    const shown = await dlq("show", `${letter.partition}:${letter.offset}`, "--json");
    expect(JSON.parse(shown.stdout).request, shown.stderr).toMatchObject({ artifacts: [{ kind: "latents" }, {}] });

    // Once it is there again, the letter is sent back to the topic of its stage.
    writeFileSync(`${store}/gone.safetensors`, whole);
    const redriven = await dlq("redrive", "--job", "missing");
    expect(redriven.code, redriven.stderr).toBe(0);
    const [, done] = (await stageAnswers(own, ["missing"], { count: 2 })).get("missing")!;
    expect(done).toMatchObject({ status: "completed" });
  });
});

describe("workers that come and go", () => {
  afterEach(async () => {
    for (const each of workers.splice(0)) await each.stop("SIGTERM");
  });

  test("leave a killed worker's sampling to another one, and compute no other stage again", async () => {
    const own = await opened();
    started.push(await worker("encode-image,encode-prompt,decode"));
    const [one, two] = [await worker("sample"), await worker("sample")];
    started.push(one, two);
    const id = randomUUID();
    const given = { ...SMALL, prompt: "make it winter", megapixels: 0.05, steps: 30 };
    await sendStage(own, stageRequestOf(id, [CAT], given));
    let name = "";
    await own.messages(TOPICS.progress, async (all) => {
      const { job_id: job, stage, step, worker: at } = await own.codec.decode("progress", all.at(-1)!.value);
      name = at;
      return job === id && stage === "sample" && (step ?? 0) > 1;
    });
    const first = [one, two].find(({ child }) => name.endsWith(`-${child.pid}`))!;
    await first.stop("SIGKILL");
    const answer = (await stageAnswers(own, [id])).get(id)![0]!;
    expect(pictureOf(answer).equals(await ran([CAT], texts(given), folder))).toBe(true);
    for (const stage of STAGES) expect(computed(id, stage), stage).toBe(1);
  });

  test("leave the sampling undone that lasts longer than their grace", async () => {
    const own = await opened();
    started.push(await worker("encode-image,encode-prompt,decode"));
    const one = await worker("sample", "--grace", "1s");
    const id = randomUUID();
    await sendStage(own, stageRequestOf(id, [CAT], { ...SMALL, megapixels: 0.05, steps: 100 }));
    await own.messages(TOPICS.progress, async (all) => {
      const { job_id: job, stage, step } = await own.codec.decode("progress", all.at(-1)!.value);
      return job === id && stage === "sample" && (step ?? 0) > 1;
    });
    const { code, milliseconds } = await one.stop("SIGTERM");
    expect(code).toBe(0);
    expect(milliseconds).toBeLessThan(15_000);
    started.push(await worker("sample"));
    expect((await stageAnswers(own, [id])).get(id)![0]).toMatchObject({ status: "completed" });
  });

  test("try a stage again that failed for a passing reason, by the retry topic", async () => {
    const own = await opened();
    const broken = folder.at("broken");
    mkdirSync(broken);
    // No folder can be where a file is.
    writeFileSync(`${broken}/stages`, "");
    const one = await worker("encode-image", "--store", broken, "--retry-delays", "2s,2s");
    started.push(one);
    const id = randomUUID();
    await sendStage(own, stageRequestOf(id, [CAT], SMALL, ["encode-image"]));
    await own.messages(TOPICS.retry, (all) => all.at(-1)!.key!.toString() === id);
    rmSync(`${broken}/stages`);
    const answer = (await stageAnswers(own, [id], { last: "encode-image" })).get(id)![0]!;
    expect(answer).toMatchObject({ status: "completed", artifacts: [{ kind: "latents" }] });
    expect(computed(id, "encode-image")).toBe(1);
  });

  test("do whole edits and all stages in one process, and count them in /metrics", async () => {
    const own = await opened();
    const all = await worker(`run,${STAGES.join(",")}`, "--metrics");
    started.push(all);
    const ids = Array.from({ length: 4 }, () => randomUUID());
    for (const [index, id] of ids.entries())
      await sendStage(own, stageRequestOf(id, [CAT], { ...SMALL, seed: String(index) }));
    const answers = await stageAnswers(own, ids);
    const alone = await ran([CAT], texts({ ...SMALL, seed: "3" }), folder);
    expect(pictureOf(answers.get(ids[3]!)![0]!).equals(alone)).toBe(true);
    const metrics = await (await fetch(`${all.url}/metrics`)).text();
    for (const stage of STAGES) {
      const count = all.log.filter(({ msg }) => msg.includes(`: ${stage} computed`)).length;
      expect(metrics).toContain(`qedit_jobs_total{state="completed",stage="${stage}"} ${count}\n`);
    }
    expect(metrics).not.toContain('qedit_jobs_total{state="completed",stage="decode"} 0\n');
  });
});

async function noise(): Promise<Buffer> {
  const [width, height] = [480, 480];
  const data = new Uint8Array(randomBytes(width * height * 3));
  return Buffer.from(await encodePicture({ width, height, data }, { format: "png" }));
}

async function halfMask(): Promise<string> {
  const [width, height] = [60, 40];
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) data.fill(255, (y * width + width / 2) * 3, (y + 1) * width * 3);
  const bytes = await encodePicture({ width, height, data }, { format: "png" });
  return folder.write("half.png", bytes);
}
