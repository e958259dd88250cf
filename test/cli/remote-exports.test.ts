// Stages and whole edits by exported models, as Triton serves them: the bytes of an edit that is made here.
import { readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ExportedServer, serveExported } from "../support/exported-server.js";
import { fixture } from "../support/golden.js";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, LORA, models, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const MODEL = ["--model", "tiny"];
const SMALL = ["--megapixels", "0.02", "--steps", "2", "--seed", "3", "-f"];
const ALL = ["encode-image", "encode-prompt", "sample", "decode"];
const LIGHTNING = ["--lora", "lightning-4steps:0.7"];

let server: ExportedServer;
let withLora: ExportedServer;
let other: TestServer;
let [qeditServer, odd, mask] = ["", "", ""];

beforeAll(async () => {
  const args = ["export", "triton", "repository", ...MODEL, "--device", "cpu", "--cfg", "-q"];
  await succeeded(args);
  await succeeded([...args.slice(0, 2), "with-lora", ...args.slice(3), ...LIGHTNING]);
  server = await serveExported(folder.at("repository"));
  withLora = await serveExported(folder.at("with-lora"));
  other = await startServer({ folder: folder.at("server"), args: ["--grpc", "127.0.0.1:0"] });
  qeditServer = `grpc://${String(other.log.find((line) => "grpc" in line)!["grpc"])}`;
  odd = folder.at("odd.png");
  await sharp({ create: { width: 67, height: 131, channels: 3, background: "#357" } })
    .composite([{ input: { create: { width: 20, height: 50, channels: 3, background: "#fa2" } }, left: 11, top: 9 }])
    .toFile(odd);
  mask = folder.at("mask.png");
  const pixels = Buffer.alloc(451 * 300);
  for (let y = 60; y < 200; y += 1) pixels.fill(255, y * 451 + 90, y * 451 + 300);
  await sharp(pixels, { raw: { width: 451, height: 300, channels: 1 } }).toFile(mask);
});
afterAll(async () => {
  await server.close();
  await withLora.close();
  await other.stop("SIGKILL");
});

async function succeeded(args: readonly string[]): Promise<Ended> {
  const ended = await qedit(args, { cwd: folder.path });
  expect(ended.code, ended.stderr).toBe(0);
  return ended;
}

function isAllElsewhere(remote: string): boolean {
  return remote.startsWith("qedit=") || ALL.every((stage) => remote.includes(`${stage}=`));
}

/** Makes an edit here, but for the stages that an edit before it had too. */
async function madeHere(args: readonly string[]): Promise<void> {
  const ended = await qedit(["run", ...args, ...QUICK, "-o", "here.png"], {
    cwd: folder.path,
    env: { XDG_CACHE_HOME: folder.at("here") },
  });
  expect(ended.code, ended.stderr).toBe(0);
}

/** Holds the bytes of an edit by servers to those of one made here. */
async function expectSame(args: readonly string[], remotes: readonly string[]): Promise<Ended[]> {
  await madeHere(args);
  const ended: Ended[] = [];
  for (const remote of remotes) {
    const here = isAllElsewhere(remote) ? [] : QUICK;
    ended.push(await succeeded(["run", ...args, ...here, "--no-cache", "--remote", remote, "-v", "-o", "there.png"]));
    expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png"))), remote).toBe(true);
  }
  return ended;
}

const all = (address: string) => ALL.map((stage) => `${stage}=${address}`).join(",");
const EDIT = [CAT, "-p", "make it winter", ...MODEL, ...SMALL];

describe("the bytes are those of an edit made here", () => {
  test.each(ALL)("with %s on an exported model", async (stage) => {
    const [ended] = await expectSame(EDIT, [`${stage}=${server.grpc}`]);
    expect(ended!.stderr).not.toContain("warning");
  });

  test("with all stages, over gRPC and HTTP, and nothing computed here", async () => {
    const remote = ALL.map((stage, at) => `${stage}=${at % 2 ? server.grpc : server.url}`).join(",");
    const [ended] = await expectSame(EDIT, [remote]);
    expect(ended!.stderr).not.toMatch(/vae:|textEncoder:|transformer:|computing on|warning/);
    expect(ended!.stderr).toMatch(/sample runs on .*, which reports no steps/);
  });

  test.each(["grpc", "url"] as const)("with the whole edit in one request by %s", async (door) => {
    const before = server.runs.length;
    await expectSame(EDIT, [`qedit=${server[door]}`]);
    expect(server.runs.slice(before)).toEqual(["qedit_1"]);
  });

  test("with any mix of this machine, exported models and another qedit", async () => {
    await expectSame(EDIT, [
      `encode-image=${server.grpc},sample=${qeditServer}`,
      `encode-prompt=${qeditServer},sample=${server.url},decode=${server.grpc}`,
      `encode-image=${qeditServer},encode-prompt=${server.grpc},sample=${server.grpc},decode=${qeditServer}`,
    ]);
  });

  test.each<[string, readonly string[], readonly string[]]>([
    ["two pictures", [CAT, ROCKET, "-p", "put 2 on 1"], []],
    ["three pictures, one of odd sides", [ROCKET, "odd.png", CAT, "-p", "put 2 on 1 beside 3"], []],
    ["guidance", [CAT, "-p", "make it winter"], ["--cfg", "2.5", "--negative-prompt", "blurred"]],
    ["guidance with two pictures, without a negative prompt", [CAT, ROCKET, "-p", "2 on 1"], ["--cfg", "3"]],
    [
      "a size, seven steps, another shift and scheduler",
      [CAT, "-p", "sepia"],
      ["--size", "208x112", "--steps", "7", "--shift", "1.7", "--scheduler", "karras"],
    ],
    ["a size that cuts picture 1", [CAT, "-p", "sepia"], ["--size", "96x224"]],
    ["the pixels of picture 1 kept", ["odd.png", "-p", "sepia"], ["--keep-size"]],
    ["a mask to crop to", [CAT, "-p", "sepia"], ["--mask", "mask.png", "--crop-mask"]],
    ["a mask to paste back by", [CAT, "-p", "sepia"], ["--mask", "mask.png", "--paste-back"]],
  ])("of an edit with %s", async (_, pictures, options) => {
    const cut = options.includes("--size") ? SMALL.slice(2) : SMALL;
    const args = [...pictures, ...MODEL, ...withoutSteps(cut, options), ...options];
    await expectSame(args, [all(server.grpc), `qedit=${server.url}`]);
  });

  test("of an edit that begins with picture 1, stage by stage", async () => {
    await expectSame(
      [...EDIT, "--denoise", "0.5"],
      [all(server.grpc), `encode-image=${server.grpc}`, `sample=${server.url}`],
    );
    await expectSame([...EDIT, "--denoise", "0"], [all(server.grpc)]);
  });

  // References of a megapixel.
  test("of an edit with another tool's numbers, for encode-prompt", async () => {
    await expectSame([...EDIT, "--match", "comfyui"], [`encode-prompt=${server.grpc}`]);
  });

  test("of an edit with another tool's numbers, for encode-prompt and for decode with its size kept", async () => {
    const remote = `decode=${server.grpc},encode-prompt=${server.url}`;
    await expectSame([...EDIT, "--match", "comfyui", "--keep-size"], [remote]);
  });

  test("of an edit with a LoRA of the export", async () => {
    const lora = ["--steps", "4", ...LIGHTNING];
    await expectSame(
      [...EDIT.slice(0, 4), "tiny", "--megapixels", "0.02", "-f", ...lora],
      [all(withLora.grpc), `qedit=${withLora.grpc}`, `sample=${withLora.url},encode-image=${server.url}`],
    );
  });

  test("by the commands of single stages, which make the same tensor files", async () => {
    for (const at of ["own", "other"] as const) {
      const where = (stage: string) => (at === "own" ? QUICK : ["--remote", `${stage}=${server.grpc}`]);
      const file = (name: string) => `${at}-${name}.safetensors`;
      const sizes = [...MODEL, "--megapixels", "0.02", "-f"];
      await succeeded(["encode-image", CAT, "odd.png", ...sizes, ...where("encode-image"), "-o", file("latents")]);
      const prompt = ["-p", "make it winter", "--negative-prompt", "x", ...MODEL, "-f"];
      await succeeded(["encode-prompt", CAT, "odd.png", ...prompt, ...where("encode-prompt"), "-o", file("cond")]);
      await succeeded(["encode-prompt", ...prompt, ...where("encode-prompt"), "-o", file("blind")]);
      const inputs = [
        "--latents",
        file("latents"),
        "--cond",
        file("cond"),
        ...MODEL,
        "--cfg",
        "2",
        "--steps",
        "2",
        "--seed",
        "3",
      ];
      await succeeded(["sample", ...inputs, "-f", ...where("sample"), "-o", file("samples")]);
      await succeeded(["decode", file("samples"), ...MODEL, "-f", ...where("decode"), "-o", `${at}.png`]);
    }
    for (const name of ["latents.safetensors", "cond.safetensors", "blind.safetensors", "samples.safetensors"])
      expect(readFileSync(folder.at(`other-${name}`)).equals(readFileSync(folder.at(`own-${name}`))), name).toBe(true);
    expect(readFileSync(folder.at("other.png")).equals(readFileSync(folder.at("own.png")))).toBe(true);
  });

  test("of a batch, and of several seeds", async () => {
    const line = { images: [CAT], prompt: "make it winter", output: "line.png", seed: 5 };
    writeFileSync(folder.at("jobs.jsonl"), JSON.stringify(line));
    const options = [...MODEL, "--megapixels", "0.02", "--steps", "2", "-f"];
    await succeeded(["run", CAT, "-p", "make it winter", ...options, ...QUICK, "--seeds", "5,6", "-o", "own.png"]);
    await succeeded(["batch", "jobs.jsonl", ...options, "--remote", `qedit=${server.grpc}`]);
    expect(readFileSync(folder.at("line.png")).equals(readFileSync(folder.at("own-seed5.png")))).toBe(true);
    const remote = ["--remote", `sample=${server.grpc}`, ...QUICK, "--no-cache"];
    await succeeded(["run", CAT, "-p", "make it winter", ...options, ...remote, "--seeds", "5,6", "-o", "there.png"]);
    expect(readFileSync(folder.at("there-seed6.png")).equals(readFileSync(folder.at("own-seed6.png")))).toBe(true);
  });
});

test.each<[string, Parameters<typeof models>[0], readonly string[], readonly string[]]>([
  ["2511", { "--transformer": fixture("tiny/transformer-2511.safetensors") }, [], []],
  ["a LoRA by its file", {}, ["--lora", `${LORA}:0.6`], ["--lora", "published.safetensors:0.6"]],
])(
  "the bytes are those of an edit made here by files of no published model: %s",
  async (name, changed, lora, called) => {
    const files = models(changed);
    const to = name.replaceAll(" ", "-");
    await succeeded(["export", "triton", to, ...files, ...lora, "--device", "cpu", "--cfg", "-q"]);
    const own = await serveExported(folder.at(to));
    const options = ["--megapixels", "0.015", "--steps", "2", "--cfg", "2", "--seed", "4", "-f"];
    const edit = ["run", CAT, ROCKET, "-p", "put picture 2 on picture 1", ...options];
    try {
      await succeeded([...edit, ...files, ...lora, ...QUICK, "-o", "here.png"]);
      for (const [remote, extra] of [
        [`sample=${own.grpc}`, [...files.slice(0, 4), ...QUICK]],
        [`qedit=${own.url}`, []],
      ] as const) {
        const { stderr } = await succeeded([...edit, ...extra, ...called, "--remote", remote, "-o", "there.png"]);
        expect(stderr).toMatch(/is not known: .*transformer \(transformer/);
        expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png"))), remote).toBe(true);
      }
    } finally {
      await own.close();
    }
  },
);

test("a server without networks answers jobs by exported models, with the bytes of an edit made here", async () => {
  const args = ["--remote", all(server.grpc)];
  const front = await startServer({ folder: folder.at("front"), args });
  try {
    await madeHere(EDIT);
    await succeeded(["run", ...EDIT, "--server", front.url, "-o", "there.png"]);
  } finally {
    await front.stop("SIGKILL");
  }
  expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png")))).toBe(true);
});

function withoutSteps(args: readonly string[], options: readonly string[]): readonly string[] {
  const at = options.includes("--steps") ? args.indexOf("--steps") : -1;
  return at < 0 ? args : [...args.slice(0, at), ...args.slice(at + 2)];
}
