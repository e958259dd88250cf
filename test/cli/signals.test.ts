// Stopping: Ctrl-C, SIGTERM, and a reader that goes away. Nothing half-written stays.
import type { ChildProcess } from "node:child_process";
import { beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { CAT, type Ended, LORA, models, QUICK, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };

/** A stop is promised within a second; starting and ending a process on a busy machine takes its share of the rest. */
const PROMPTLY = 1000;
const BUSY = 500;

beforeAll(async () => {
  const results = await Promise.all([
    qedit(["encode-image", CAT, ...models({}, ["--vae"]), ...QUICK, "--megapixels", "0.01"], here),
    qedit(["encode-prompt", "-p", "x", ...models({}, ["--text-encoder"]), ...QUICK], here),
  ]);
  expect(results.map(({ code }) => code)).toEqual([0, 0]);
  const side = 384;
  await writeSafetensors(folder.at("large.latent"), {
    latent_tensor: float32([1, 16, side, side]),
    latent_format_version_0: float32([0]),
  });
});

// Sends the signals one after the other, the first a delay after the start, or after `line` came on stderr; gives the milliseconds to the end.
async function interrupted(
  args: readonly string[],
  { line, delay, signals }: { line?: RegExp; delay: number; signals: readonly NodeJS.Signals[] },
): Promise<Ended & { milliseconds: number }> {
  let sent = 0;
  const send = (child: ChildProcess, left: readonly NodeJS.Signals[]) => {
    sent ||= performance.now();
    child.kill(left[0]);
    if (left.length > 1) setTimeout(() => send(child, left.slice(1)), 50);
  };
  const started = (child: ChildProcess) => {
    if (line === undefined) setTimeout(() => send(child, signals), delay);
    let text = "";
    child.stderr!.on("data", (part: string) => {
      if (line === undefined || text === "found") return;
      text += part;
      if (!line.test(text)) return;
      text = "found";
      setTimeout(() => send(child, signals), delay);
    });
  };
  const ended = await spawned(args, { ...here, started });
  return { ...ended, milliseconds: performance.now() - sent };
}

const EXISTING = ["cond.json", "cond.safetensors", "large.latent", "latents.json", "latents.safetensors"];
const LONG_SAMPLE = [
  "sample",
  "--latents",
  "latents.safetensors",
  "--cond",
  "cond.safetensors",
  ...models({}, ["--transformer"]),
  ...QUICK,
  "--steps",
  "10000",
  "--cfg",
  "1",
  "--lora",
  LORA,
];
// A picture of 3072x3072: seconds of one native computation.
const LONG_DECODE = ["decode", "large.latent", ...models({}, ["--vae"]), ...QUICK, "-o", "never.png"];

describe("while sampling", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s ends with exit code %i within a second, and writes nothing", async (signal, code) => {
    const ended = await interrupted(LONG_SAMPLE, { line: /^LoRA .*\n/m, delay: 600, signals: [signal] });
    expect(ended).toMatchObject({ code, signal: null, stdout: "" });
    expect(ended.stderr).toMatch(/\nerror: Stopped\n$/);
    expect(ended.milliseconds).toBeLessThan(PROMPTLY + BUSY);
    expect(folder.names()).toEqual(EXISTING);
  });
});

describe("while one native computation is under way", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s ends it within a second, by exit code or by the signal itself", async (signal, code) => {
    const ended = await interrupted(LONG_DECODE, { delay: 2500, signals: [signal] });
    expect(ended.signal === signal || ended.code === code, JSON.stringify(ended)).toBe(true);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(/^error: Stopped\n$/);
    expect(ended.milliseconds).toBeLessThan(PROMPTLY + BUSY);
    expect(folder.names()).toEqual(EXISTING);
  });

  test("a second Ctrl-C ends it at once", async () => {
    const ended = await interrupted(LONG_DECODE, { delay: 2500, signals: ["SIGINT", "SIGINT"] });
    expect(ended.signal === "SIGINT" || ended.code === 130, JSON.stringify(ended)).toBe(true);
    expect(ended.milliseconds).toBeLessThan(BUSY + 50);
    expect(folder.names()).toEqual(EXISTING);
  });
});

describe("a reader that goes away", () => {
  test("from stdout is no error", async () => {
    const args = [
      "encode-image",
      CAT,
      ...models({}, ["--vae"]),
      ...QUICK,
      "--megapixels",
      "0.001",
      "--json",
      "-o",
      "closed.safetensors",
    ];
    const { code, stderr } = await spawned(args, { ...here, started: (child) => child.stdout!.destroy() });
    expect([code, stderr.includes("error")]).toEqual([0, false]);
    expect(folder.names()).toContain("closed.safetensors");
  });

  test("from the help is no error", async () => {
    const { code, stderr } = await spawned(["run", "--help"], { ...here, started: (child) => child.stdout!.destroy() });
    expect([code, stderr]).toEqual([0, ""]);
  });
});
