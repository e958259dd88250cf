// Planned bytes against what a process really takes, for a network of known weights that is wide enough to be seen.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { randomCheckpoint } from "../../bench/random-checkpoint.js";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { vaeNeeds } from "../../src/stages/networks/open-vae.js";
import { planTiles } from "../../src/stages/networks/tiles.js";
import { RUN_TYPESCRIPT } from "../support/golden.js";

const folder = await mkdtemp(join(tmpdir(), "qedit-planned-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const SRC = fileURLToPath(new URL("../../src/", import.meta.url));

/** A process of its own, whose highest resident memory before and after nothing else moves. */
const MEASURE = `
import { readFileSync } from "node:fs";
const [src, path, side] = process.argv.slice(1);
const { directEngine } = await import(src + "engine/sessions/direct.ts");
const { openModel } = await import(src + "stages/networks/model-handle.ts");
const { withVae } = await import(src + "stages/networks/open-vae.ts");
const { float32 } = await import(src + "std/tensor.ts");
const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
const file = await openModel(path, "vae");
const context = { engine, emit() {}, signal: new AbortController().signal };
const highest = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
const run = { file, compute: "f32", tile: undefined };
const before = process.memoryUsage.rss();
const cells = Number(side) / 8;
await withVae("decoder", { run, pixels: [Number(side), Number(side)] }, context, (vae) => vae(float32([1, 16, cells, cells])));
console.log(highest() - before);
`;

async function measured(path: string, side: number): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--import",
    RUN_TYPESCRIPT,
    "--input-type=module",
    "-e",
    MEASURE,
    SRC,
    path,
    String(side),
  ]);
  return Number(stdout);
}

/** Of what is planned, a decode takes at most all and at least this share: the margin is for runs that leave more of the arena unused. */
const LEAST = 1 / 3;
/** Bytes by which the peaks of two processes that do the same differ: glibc keeps more or less of what was freed. */
const SPREAD = 50e6;

test.runIf(process.platform === "linux")("a decode takes what is planned for it", async () => {
  const path = join(folder, "vae.safetensors");
  await randomCheckpoint(path, publishedTensors("qwen_image_vae"));
  const file = await openModel(path, "vae");
  const needs = (side: number) => vaeNeeds("decoder", { run: { file, compute: "f32" }, pixels: [side, side] }, CPU);
  // Large enough that a run takes more than folding the weights did when the session opened.
  const [small, large] = [await measured(path, 384), await measured(path, 512)];
  const [plannedSmall, plannedLarge] = [planTiles(needs(384), undefined), planTiles(needs(512), undefined)];
  expect(large).toBeGreaterThan(plannedLarge.peak * LEAST);
  expect(large).toBeLessThanOrEqual(plannedLarge.peak);
  // What grows with the picture is what a run takes.
  const [grown, plannedGrowth] = [large - small, plannedLarge.activations - plannedSmall.activations];
  expect(grown).toBeGreaterThan(plannedGrowth * LEAST);
  expect(grown).toBeLessThanOrEqual(plannedGrowth + SPREAD);
});
