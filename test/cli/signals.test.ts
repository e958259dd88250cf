// Stopping: Ctrl-C, SIGTERM, and a reader that goes away. Nothing half-written stays.
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { processTime } from "../support/process-time.js";
import { CAT, type Ended, LORA, models, QUICK, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const logs = workFolder();

/** A stop is promised within a second, milliseconds. */
const PROMISED = 1000;
/** Half a second more on a quiet machine, and as much longer on a busy one as all processes take there: in times of a process that does nothing. */
const ALLOWANCE = 12;
/** How long the first Ctrl-C waits for a native computation (src/cli/interrupt.ts), milliseconds. */
const GRACE = 500;

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

interface Interruption {
  /** Whether it is time for the first signal, by what came on stderr. */
  readonly isTime: (stderr: string) => boolean;
  readonly signals: readonly NodeJS.Signals[];
}

// Sends the signals one after the other; gives the milliseconds from the first to the end, and how many are allowed.
async function interrupted(
  args: readonly string[],
  { isTime, signals }: Interruption,
): Promise<Ended & { milliseconds: number; allowed: number }> {
  let sent = 0;
  const send = (child: ChildProcess, left: readonly NodeJS.Signals[]) => {
    sent ||= performance.now();
    child.kill(left[0]);
    if (left.length > 1) setTimeout(() => send(child, left.slice(1)), 50);
  };
  const started = (child: ChildProcess) => {
    let text = "";
    child.stderr!.on("data", (part: string) => (text += part));
    const look = setInterval(() => {
      if (!isTime(text) && child.exitCode === null) return;
      clearInterval(look);
      // The computation begins after what it is known by.
      setTimeout(() => send(child, signals), 300);
    }, 20);
  };
  const before = await processTime();
  const ended = await spawned(args, { ...here, started });
  const milliseconds = performance.now() - sent;
  const allowed = PROMISED + ALLOWANCE * Math.max(before, await processTime());
  return { ...ended, milliseconds, allowed };
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

// Stops the long decode while its network runs, by events that lie elsewhere.
function whileDecoding(name: string, signals: readonly NodeJS.Signals[]): ReturnType<typeof interrupted> {
  const log = logs.at(`${name}.ndjson`);
  const isTime = () => existsSync(log) && readFileSync(log, "utf8").includes('"action":"opened"');
  return interrupted([...LONG_DECODE, "--events", log], { isTime, signals });
}

describe("while sampling", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 143],
  ] as const)("%s ends with exit code %i within a second, and writes nothing", async (signal, code) => {
    const log = logs.at(`sample-${signal}.ndjson`);
    const isTime = () => existsSync(log) && readFileSync(log, "utf8").includes('"step":3,');
    const ended = await interrupted([...LONG_SAMPLE, "--events", log], { isTime, signals: [signal] });
    // A machine that is too busy for a step and the end within the grace has the signal itself end it.
    const isInTime = ended.milliseconds < GRACE;
    expect([ended.code, ended.signal]).toEqual(
      isInTime
        ? [code, null]
        : expect.toBeOneOf([
            [code, null],
            [null, signal],
          ]),
    );
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(/\nerror: Stopped\n$/);
    expect(ended.milliseconds).toBeLessThan(ended.allowed);
    expect(folder.names()).toEqual(EXISTING);
  });
});

describe("while one native computation is under way", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s ends it within a second, by exit code or by the signal itself", async (signal, code) => {
    const ended = await whileDecoding(signal, [signal]);
    expect(ended.signal === signal || ended.code === code, JSON.stringify(ended)).toBe(true);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(/^error: Stopped\n$/);
    expect(ended.milliseconds).toBeLessThan(ended.allowed);
    expect(folder.names()).toEqual(EXISTING);
  });

  test("a second Ctrl-C ends it at once: sooner than the first would", async () => {
    // The best of several: another process may come in between.
    let best = Infinity;
    for (let tries = 0; tries < 5 && best >= GRACE; tries++) {
      const ended = await whileDecoding(`second-${tries}`, ["SIGINT", "SIGINT"]);
      expect(ended.signal === "SIGINT" || ended.code === 130, JSON.stringify(ended)).toBe(true);
      best = Math.min(best, ended.milliseconds);
    }
    expect(best).toBeLessThan(GRACE);
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
