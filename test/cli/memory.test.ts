// --vram and --tile through the command line: the same picture from less memory.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { readImage } from "../../src/image/read.js";
import { CAT, expectRefusal, models, qedit, QUICK, workFolder } from "./qedit.js";

const work = workFolder();
const SMALL = ["--megapixels", "0.02", "--steps", "3", "--cfg", "2"];

/** Levels of 8 bits: float32 sums in another order may fall on either side of a half. */
const ONE_LEVEL = 1;

async function run(name: string, options: readonly string[]) {
  const env = { QEDIT_HOME: work.at("home") };
  const ended = await qedit(["run", CAT, "-p", "make it winter", ...models(), ...SMALL, ...QUICK, "--no-cache", "--force", "-o", name, "--events", `${name}.ndjson`, ...options], { cwd: work.path, env });
  expect(ended.code, ended.stderr).toBe(0);
  const events = (await readFile(work.at(`${name}.ndjson`), "utf8")).trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  const picture = await readImage(work.at(name), name);
  const plans = events.flatMap((event) => (event["event"] === "plan" ? (event["lines"] as string[]) : []));
  return { data: picture.data as ArrayLike<number>, plans, opened: events.filter(({ event, action }) => event === "session" && action === "opened").map(({ network }) => network) };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, index) => Math.max(most, Math.abs(value - b[index]!)), 0);
}

test("an edit that streams every layer and works on tiles gives the resident edit's picture", async () => {
  const [resident, streamed] = [await run("resident.png", []), await run("streamed.png", ["--vram", "1K", "--tile", "64"])];
  expect(largestDifference(streamed.data, resident.data)).toBeLessThanOrEqual(ONE_LEVEL);
  expect(streamed.plans.join("\n")).toMatch(/VAE encoder: tiles of 64x64 pixels.*\nvision tower: .* layers stay open.*\nlanguage model: .* 0 of \d+ layers stay open, the others 1 at a time.*\ntransformer: .* 0 of 2 layers stay open, the others 1 at a time; .*\nVAE decoder: tiles of 64x64 pixels/s);
  expect(streamed.opened.filter((network) => network === "transformer, blocks 0 to 0")).toHaveLength(3);
  expect(resident.plans.join("\n")).not.toMatch(/layers/);
  expect(resident.opened).toContain("transformer");
});

test("a plan that fits is told too, and opens everything once", async () => {
  const { plans, opened } = await run("roomy.png", ["--vram", "2"]);
  expect(plans.filter((line) => /, all open; .* at most$/.test(line)).map((line) => line.split(":")[0])).toEqual(["VAE encoder", "vision tower", "language model", "transformer", "VAE decoder"]);
  expect(opened).toEqual(["VAE encoder", "vision tower", "language model", "modulation of blocks 0 to 1", "transformer", "VAE decoder"]);
});

test("sizes that mean nothing are refused", async () => {
  for (const [option, value] of [["--vram", "much"], ["--vram", "-8G"], ["--tile", "10"]] as const) {
    expectRefusal(await qedit(["run", CAT, "-p", "x", option, value], { cwd: work.path }), { code: 2, message: `for ${option}` });
  }
});
