// Stages that run elsewhere, on a real second qedit: the bytes of an edit that is made here.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, expectRefusal, FILES, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const TINY = ["--model", "tiny", "--megapixels", "0.02", "--steps", "2", "--seed", "3"];
const RUN = ["run", CAT, "-p", "make it winter", ...TINY, "-f"];
/** A port where nothing listens. */
const DEAD = "grpc://127.0.0.1:9";

let server: TestServer;
let [grpc, http] = ["", ""];
let here: Buffer;

beforeAll(async () => {
  server = await startServer({ folder: folder.at("server"), args: ["--grpc", "127.0.0.1:0"] });
  grpc = `grpc://${String(server.log.find((line) => "grpc" in line)!["grpc"])}`;
  http = server.url;
  await succeeded([...RUN, ...QUICK, "-o", "here.png"]);
  here = readFileSync(folder.at("here.png"));
});
afterAll(() => server.stop("SIGKILL"));

async function succeeded(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const ended = await qedit(args, { cwd: folder.path, env });
  expect(ended.code, ended.stderr).toBe(0);
  return ended;
}

async function sameBytes(remote: string, options: readonly string[] = []): Promise<Ended> {
  const ended = await succeeded([...RUN, ...options, "--remote", remote, "-v", "-o", "there.png"]);
  expect(readFileSync(folder.at("there.png")).equals(here)).toBe(true);
  return ended;
}

describe("the bytes are those of an edit made here", () => {
  test.each([
    ["encode-image", undefined],
    ["encode-prompt", /textEncoder:/],
    ["sample", /transformer:/],
    ["decode", undefined],
  ])("with %s on another machine, whose model file is not looked for here", async (stage, file) => {
    const { stderr } = await sameBytes(`${stage}=${grpc}`, QUICK);
    if (file !== undefined) expect(stderr).not.toMatch(file);
    expect(stderr).toContain("drift");
  });

  test("with stages over gRPC and HTTP, by names with dashes and underscores, and nothing computed here", async () => {
    const { stderr } = await sameBytes(`encode_image=${http},encode-prompt=${grpc},sample=${http},decode=${grpc}`);
    expect(stderr).not.toMatch(/vae:|textEncoder:|transformer:|computing on/);
    expect(stderr).not.toContain("warning");
  });

  test.each(["grpc", "http"])("with the whole edit handed over by %s", async (protocol) => {
    await sameBytes(`qedit=${protocol === "grpc" ? grpc : http}`);
  });

  test("of noise levels that are given themselves", async () => {
    const args = [...RUN.filter((arg) => arg !== "--steps" && arg !== "2"), "--sigmas", "1,0.9,0.75,0.4"];
    await succeeded([...args, ...QUICK, "-o", "own.png"]);
    for (const remote of [`sample=${grpc}`, `sample=${http}`, `qedit=${grpc}`, `qedit=${http}`]) {
      await succeeded([...args, "--remote", remote, "-o", "other.png"]);
      expect(readFileSync(folder.at("other.png")).equals(readFileSync(folder.at("own.png"))), remote).toBe(true);
    }
  });

  test("of an edit cropped to a mask, with a LoRA, a negative prompt and several pictures", async () => {
    const mask = await maskFile();
    const more = ["--mask", mask, "--crop-mask", "--lora", "lightning-4steps:0.7", "--negative-prompt", "blurred"];
    const args = ["run", CAT, ROCKET, "-p", "put 2 on 1", ...TINY, "--cfg", "2", ...more, "--force", "-f"];
    await succeeded([...args, ...QUICK, "-o", "own.png"]);
    for (const remote of [
      `encode-image=${grpc},encode-prompt=${http}`,
      `sample=${http},decode=${grpc}`,
      `qedit=${grpc}`,
    ]) {
      await succeeded([...args, "--remote", remote, "-o", "other.png"]);
      expect(readFileSync(folder.at("other.png")).equals(readFileSync(folder.at("own.png"))), remote).toBe(true);
    }
  });

  test("of several seeds, of each and of batch", async () => {
    const line = { images: [CAT], prompt: "make it winter", output: "line.png" };
    writeFileSync(
      folder.at("jobs.jsonl"),
      [line, { ...line, seed: 4, output: "four.png" }].map((job) => JSON.stringify(job)).join("\n"),
    );
    const remote = ["--remote", `encode-prompt=${grpc}`, "--remote", `sample=${http}`];
    await succeeded(["batch", "jobs.jsonl", ...TINY.slice(0, 6), "--seed", "3", "-f", ...remote]);
    expect(readFileSync(folder.at("line.png")).equals(here)).toBe(true);
    await succeeded(["each", CAT, "-p", "make it winter", ...TINY, "-f", "-o", "each", ...remote]);
    expect(readFileSync(folder.at("each/cat-edit.png")).equals(here)).toBe(true);
    await succeeded([...RUN.slice(0, -3), "--seeds", "3,4", "-f", "-o", "seeds.png", ...remote]);
    expect(readFileSync(folder.at("seeds-seed3.png")).equals(here)).toBe(true);
    expect(readFileSync(folder.at("seeds-seed4.png")).equals(readFileSync(folder.at("four.png")))).toBe(true);
  });

  test("by the commands of single stages, which make the same tensor files", async () => {
    const [megapixels, prompt, sampling] = [TINY.slice(0, 4), ["-p", "make it winter"], TINY.slice(4)];
    for (const [at, servers] of [
      ["own", QUICK],
      ["other", []],
    ] as const) {
      const remote = (stage: string) => (at === "own" ? servers : ["--remote", `${stage}=${grpc}`]);
      const file = (name: string) => `${at}-${name}.safetensors`;
      await succeeded(["encode-image", CAT, ...megapixels, "-f", ...remote("encode-image"), "-o", file("latents")]);
      await succeeded([
        "encode-prompt",
        CAT,
        ...prompt,
        "--model",
        "tiny",
        "-f",
        ...remote("encode-prompt"),
        "-o",
        file("cond"),
      ]);
      const inputs = ["--latents", file("latents"), "--cond", file("cond"), "--model", "tiny"];
      await succeeded(["sample", ...inputs, ...sampling, "-f", ...remote("sample"), "-o", file("samples")]);
      await succeeded(["decode", file("samples"), "--model", "tiny", "-f", ...remote("decode"), "-o", `${at}.png`]);
    }
    for (const name of ["latents.safetensors", "cond.safetensors", "samples.safetensors"])
      expect(readFileSync(folder.at(`other-${name}`)).equals(readFileSync(folder.at(`own-${name}`))), name).toBe(true);
    expect(readFileSync(folder.at("other.png")).equals(here)).toBe(true);
  });
});

describe("servers of one stage", () => {
  test("are asked in order: one that is not there is passed over with a warning", async () => {
    const { stderr } = await sameBytes(`sample=${DEAD},${grpc}`, QUICK);
    expect(stderr).toMatch(
      /warning: grpc:\/\/127\.0\.0\.1:9 does not run sample: nothing listens there; the next server is asked/,
    );
  });

  test("none of which answers are all named", async () => {
    const ended = await qedit([...RUN, ...QUICK, "--remote", `sample=${DEAD},http://127.0.0.1:9`, "-o", "no.png"], {
      cwd: folder.path,
    });
    expectRefusal(ended, {
      code: 1,
      message: /Cannot run sample on any of 2 servers: grpc:.*nothing listens there; http:.*nothing listens there/,
    });
  });

  test("are not asked after one that refuses the request", async () => {
    const args = [
      ...RUN,
      "--model",
      "qwen-image-edit-2509",
      ...QUICK.slice(2),
      "--remote",
      `encode-image=${grpc},${DEAD}`,
    ];
    const ended = await qedit(
      [...args, "--remote", `encode-prompt=${grpc},sample=${grpc}`, "--vae", FILES["--vae"], "-o", "no.png"],
      { cwd: folder.path },
    );
    expectRefusal(ended, { code: 3, message: /The server at grpc:.* does not run encode_image: .*qwen_image_vae/ });
  });
});

describe("settings", () => {
  test("of the user's file and of the environment count, a project's file may not name servers", async () => {
    const config = { QEDIT_HOME: folder.at("home") };
    const remote = { encode_prompt: grpc, sample: [DEAD, grpc] };
    const { stdout } = await succeeded(["config", "--explain"], config);
    const path = /\S+config\.json/.exec(stdout)![0];
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, JSON.stringify({ remote }));
    const { stderr } = await succeeded([...RUN, ...QUICK, "-o", "there.png"], config);
    expect(stderr).toContain("the next server is asked");
    await succeeded([...RUN, ...QUICK, "-o", "there.png"], { QEDIT_REMOTE: `sample=${grpc},encode-prompt=${http}` });
    expect(readFileSync(folder.at("there.png")).equals(here)).toBe(true);
    mkdirSync(folder.at("project"));
    writeFileSync(folder.at("project/qedit.json"), JSON.stringify({ remote }));
    const ended = await qedit([...RUN, "-o", "no.png"], { cwd: folder.at("project") });
    expectRefusal(ended, { code: 2, message: /Cannot use the setting "remote" in .*qedit\.json/ });
  });

  test.each([
    [
      "a stage that is none",
      ["--remote", "resize=grpc://a:1"],
      /Cannot use "resize=grpc:\/\/a:1" for --remote: STAGE=ADDRESS/,
    ],
    ["an address that is none", ["--remote", "sample=gpu-host"], /Cannot use "sample=gpu-host" for --remote/],
    ["a stage beside the whole edit", ["--remote", "qedit=grpc://a:1,sample=grpc://a:1"], /for --remote/],
    ["a time without a server", ["--remote-timeout", "5m"], /Cannot use --remote-timeout: no stage runs elsewhere/],
    [
      "a device where nothing is computed here",
      ["--remote", "qedit=grpc://a:1", "--threads", "2"],
      /Cannot use --threads: nothing is computed here/,
    ],
    [
      "tensor files of an edit that is handed over",
      ["--remote", "qedit=grpc://a:1", "--keep", "k"],
      /Cannot use --keep/,
    ],
    [
      "a file of a stage elsewhere",
      ["--remote", "sample=grpc://a:1", "--transformer", FILES["--transformer"]],
      /Cannot use --transformer .*: its stage runs elsewhere/,
    ],
    [
      "a LoRA's path",
      ["--remote", "sample=grpc://a:1", "--lora", "./my.safetensors"],
      /Cannot use --lora \.\/my\.safetensors/,
    ],
    [
      "a server that would have its own",
      ["--remote", "sample=grpc://a:1", "--server", "http://127.0.0.1:9"],
      /Cannot use --remote with the server/,
    ],
  ])("refused: %s", async (_, options, message) => {
    expectRefusal(await qedit([...RUN, ...options, "-o", "no.png"], { cwd: folder.path }), { code: 2, message });
  });

  test("of a command of one stage name that stage", async () => {
    const args = ["encode-image", CAT, "--model", "tiny", "--remote", `sample=${grpc}`, "-o", "no.safetensors"];
    const message = /Cannot use --remote: it names no server of encode-image/;
    expectRefusal(await qedit(args, { cwd: folder.path }), { code: 2, message });
  });
});

test("a plan names the servers, and looks for no file of their stages", async () => {
  const args = ["plan", CAT, "-p", "x", "--remote", `encode-prompt=${DEAD},sample=${DEAD},${grpc}`];
  const { stdout } = await succeeded([...args, "--device", "cpu"]);
  expect(stdout).toContain(`sample: on ${DEAD}, ${grpc}`);
  expect(stdout).toContain("qwen_image_vae.safetensors: not on disk");
  expect(stdout).not.toContain("qwen_image_edit_2509");
  const { stages, elsewhere, files } = JSON.parse((await succeeded([...args, "--json"])).stdout) as Record<
    string,
    object[]
  >;
  expect(stages!.map((each) => (each as { stage: string }).stage)).toEqual(["encode-image", "decode"]);
  expect(elsewhere).toEqual({ "encode-prompt": DEAD, sample: `${DEAD}, ${grpc}` });
  expect(files).toHaveLength(1);
});

test("a plan of an edit that is handed over says that it is one request", async () => {
  const args = ["plan", CAT, "-p", "x", ...TINY, "--remote", `qedit=${DEAD},${grpc}`];
  expect((await succeeded(args)).stdout).toContain(`all in one request: on ${DEAD}, ${grpc}`);
  expect(JSON.parse((await succeeded([...args, "--json"])).stdout)).toMatchObject({ isOneRequest: true, stages: [] });
});

async function maskFile(): Promise<string> {
  const { encodePicture } = await import("../../src/image/io/write.js");
  const [width, height] = [451, 300];
  const data = new Uint8Array(width * height * 3);
  for (let y = 60; y < 200; y += 1) data.fill(255, (y * width + 90) * 3, (y * width + 300) * 3);
  writeFileSync(folder.at("mask.png"), await encodePicture({ width, height, data }, { format: "png" }));
  return folder.at("mask.png");
}
