// Pictures that a server makes for the command line, of every kind: the bytes are those of an edit in its own process.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, LORA, models, qedit, ROCKET, workFolder } from "./qedit.js";
import { here as calledHere, there as calledThere, jobsOf, SMALL } from "./there.js";

const folder = workFolder();
const RUN = ["run", CAT, "-p", "make it black and white", ...SMALL];

let server: TestServer;
beforeAll(async () => {
  const args = ["--no-cache", "--max-queue", "3", "--max-megapixels", "0.05"];
  server = await startServer({ folder: folder.at("server"), args });
});
afterAll(() => server.stop("SIGKILL"));

const there = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  calledThere(args, { cwd: folder.path, server, env });
const byUrl = (args: readonly string[]): Promise<Ended> =>
  qedit([...args, "--server", server.url], { cwd: folder.path });
const here = (args: readonly string[]): Promise<Ended> => calledHere(args, folder.path);
const jobs = () => jobsOf(server);

describe.each([
  [
    "two pictures",
    ["run", ROCKET, CAT, "-p", "the colours of picture 2", ...SMALL, "--seed", "7", "--keep-size"],
    "png",
  ],
  ["a mask", [...RUN, "--mask", "mask.png", "--paste-back", "--feather", "3"], "png"],
  ["JPEG", [...RUN, "--jpeg-quality", "70"], "jpg"],
  ["a preset", ["run", CAT, "-p", "make it winter", "--model", "tiny", "--megapixels", "0.02", "--fast", "4"], "png"],
  [
    "model files by their paths and a LoRA",
    ["run", CAT, "-p", "x", ...models(), "--lora", LORA, "--size", "64x48", "--steps", "2"],
    "webp",
  ],
] as const)("the bytes are the same with %s", (name, args, format) => {
  test(name, async () => {
    writeFileSync(folder.at("mask.png"), await maskOfCat());
    const calls = name.startsWith("model files") ? [there] : [there, byUrl];
    const own = await here([...args, "-f", "-o", `same.${format}`]);
    expect(own.code, own.stderr).toBe(0);
    const bytes = readFileSync(folder.at(`same.${format}`));
    for (const call of calls) {
      const before = (await jobs()).length;
      const ended = await call([...args, "-f", "-o", `same.${format}`]);
      expect(ended.code, ended.stderr).toBe(0);
      expect((await jobs()).length).toBe(before + 1);
      expect(readFileSync(folder.at(`same.${format}`)).equals(bytes)).toBe(true);
    }
  });
});

// Of files: differences of long buffers take minutes to print.
function hashes(names: readonly string[]): readonly string[] {
  return names.map((name) =>
    createHash("sha256")
      .update(readFileSync(folder.at(name)))
      .digest("hex"),
  );
}

async function maskOfCat(): Promise<Buffer> {
  const white = await sharp({ create: { width: 100, height: 80, channels: 3, background: "white" } })
    .png()
    .toBuffer();
  return sharp({ create: { width: 451, height: 300, channels: 3, background: "black" } })
    .composite([{ input: white, left: 50, top: 40 }])
    .png()
    .toBuffer();
}

test("several seeds are several jobs, more than the queue takes, with the same files and sheet", async () => {
  const args = [...RUN, "--seeds", "1..4", "--sheet", "sheet.png", "-f", "-o", "many.png"];
  const own = await here(args);
  const files = ["many-seed1.png", "many-seed2.png", "many-seed3.png", "many-seed4.png", "sheet.png"];
  const bytes = hashes(files);
  const before = (await jobs()).length;
  const ended = await byUrl(args);
  expect([ended.code, ended.stdout], ended.stderr).toEqual([0, own.stdout]);
  expect((await jobs()).length).toBe(before + 4);
  expect(hashes(files)).toEqual(bytes);
});

test("each picture of a folder is a job, with the same files, sheet and result lines", async () => {
  const args = [
    "each",
    CAT,
    ROCKET,
    "-p",
    "make it winter",
    ...SMALL,
    "--json",
    "-f",
    "-o",
    "each/",
    "--sheet",
    "each.png",
  ];
  const names = ["each/cat-edit.png", "each/rocket-edit.png", "each.png"];
  const lines = ({ stdout }: Ended) =>
    stdout
      .trim()
      .split("\n")
      .map((line) => ({ ...(JSON.parse(line) as { job: number }), seconds: 0 }))
      .sort((a, b) => a.job - b.job);
  const own = await here(args);
  expect(own.code, own.stderr).toBe(0);
  const bytes = hashes(names);
  for (const call of [there, byUrl]) {
    const before = (await jobs()).length;
    const ended = await call(args);
    expect(ended.code, ended.stderr).toBe(0);
    expect((await jobs()).length).toBe(before + 2);
    expect(lines(ended)).toEqual(lines(own));
    expect(hashes(names)).toEqual(bytes);
  }
});

test("the lines of a batch are jobs, with the same files, sheet and result lines, and are resumed", async () => {
  const line = (job: object) => `${JSON.stringify({ images: [CAT], megapixels: 0.02, steps: 2, ...job })}\n`;
  const written = [
    line({ prompt: "make it sepia", output: "sepia.png" }),
    line({ prompt: "make it winter", output: "winter.png", seed: 5 }),
    line({ prompt: "make it winter", steps: 0, output: "never.png" }),
  ];
  writeFileSync(folder.at("jobs.jsonl"), written.join(""));
  const args = ["batch", "jobs.jsonl", "--model", "tiny", "-f", "--sheet", "batch.png"];
  const names = ["sepia.png", "winter.png", "batch.png"];
  const lines = ({ stdout }: Ended) =>
    stdout
      .trim()
      .split("\n")
      .map((each) => ({ ...(JSON.parse(each) as { job: number }), seconds: 0 }))
      .sort((a, b) => a.job - b.job);
  const own = await here(args);
  expect(own.code, own.stderr).toBe(6);
  const bytes = hashes(names);
  for (const call of [there, byUrl]) {
    const before = (await jobs()).length;
    const ended = await call(args);
    expect(ended.code, ended.stderr).toBe(6);
    expect((await jobs()).length).toBe(before + 2);
    expect(lines(ended)).toEqual(lines(own));
    expect(hashes(names)).toEqual(bytes);
  }
  const state = { XDG_STATE_HOME: folder.at("state") };
  await there(args, state);
  const resumed = await there(["batch", "jobs.jsonl", "--model", "tiny", "--resume"], state);
  expect(resumed.stderr).toMatch(/0 done, 1 failed, 2 skipped/);
});

test("a line of a batch with an option of this process is refused by a server that was named, and made here beside one that was found", async () => {
  const job = { images: [CAT], prompt: "make it sepia", megapixels: 0.02, steps: 2, output: "kept.png", keep: "kept" };
  writeFileSync(folder.at("keep.jsonl"), JSON.stringify(job));
  const refused = await byUrl(["batch", "keep.jsonl", "--model", "tiny"]);
  expect([refused.code, refused.stdout]).toEqual([6, expect.stringMatching(/Cannot use .*keep.* with the server at/)]);
  const made = await there(["batch", "keep.jsonl", "--model", "tiny"]);
  expect(made.code, made.stderr).toBe(0);
  expect(folder.names()).toContain("kept/samples.safetensors");
});

test("of each, a picture that cannot be read fails alone, and --max-failures leaves out the rest", async () => {
  writeFileSync(folder.at("broken.png"), "no picture");
  const args = ["each", "broken.png", CAT, "-p", "make it winter", ...SMALL, "-f", "-o", "each/"];
  const ended = await byUrl(args);
  expect([ended.code, ended.stdout], ended.stderr).toEqual([6, "each/cat-edit.png\n"]);
  expect(ended.stderr).toMatch(/1 done, 1 failed, 0 skipped/);
  const stopped = await byUrl([...args, "--max-failures", "1"]);
  expect([stopped.code, stopped.stdout], stopped.stderr).toEqual([6, ""]);
  expect(stopped.stderr).toMatch(/0 done, 1 failed, 1 skipped/);
});

test("a picture comes from stdin and goes to stdout, and previews into their file", async () => {
  const args = ["run", "-", "-p", "make it black and white", ...SMALL, "-o", "-", "--preview", "now.png", "-f"];
  const input = readFileSync(CAT);
  const own = await qedit([...args, "--device", "cpu", "--no-cache"], { cwd: folder.path, input });
  const ended = await qedit([...args, "--server", `unix:${server.socket}`], { cwd: folder.path, input });
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.bytes.equals(own.bytes)).toBe(true);
  expect((await sharp(readFileSync(folder.at("now.png"))).metadata()).format).toBe("png");
});

describe("a server that was only found", () => {
  test.each([
    ["an option of this process", ["--threads", "1"], /--threads is for this process/],
    ["a larger picture than it makes", ["--megapixels", "0.06"], /0\.05 megapixels at most/],
  ])("leaves an edit with %s to this process", async (_, more, reason) => {
    const before = (await jobs()).length;
    const ended = await there([...RUN, ...more, "-v", "-f", "-o", "here.png"]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(reason);
    expect((await jobs()).length).toBe(before);
  });

  test("is not asked with --server none or QEDIT_SERVER=none", async () => {
    const before = (await jobs()).length;
    for (const ended of [
      await there([...RUN, "--server", "none", "-f", "-o", "here.png"]),
      await there([...RUN, "-f", "-o", "here.png"], { QEDIT_SERVER: "none" }),
    ])
      expect(ended.code, ended.stderr).toBe(0);
    expect((await jobs()).length).toBe(before);
  });
});
