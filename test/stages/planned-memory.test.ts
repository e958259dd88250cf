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
import { readNetworkFile } from "../../src/stages/network-file.js";
import { vaeNeeds } from "../../src/stages/open-vae.js";
import { planTiles } from "../../src/stages/tiles.js";

const folder = await mkdtemp(join(tmpdir(), "qedit-planned-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));

/** A process of its own, whose highest resident memory before and after nothing else moves. */
const MEASURE = `
import { readFileSync } from "node:fs";
const [dist, path, side] = process.argv.slice(1);
const { directEngine } = await import(dist + "engine/direct.js");
const { readNetworkFile } = await import(dist + "stages/network-file.js");
const { withVae } = await import(dist + "stages/open-vae.js");
const { float32 } = await import(dist + "tensor.js");
const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
const file = await readNetworkFile(path, { name: "VAE", option: "--vae" });
const context = { engine, emit() {}, signal: new AbortController().signal };
const highest = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
const run = { file, compute: "f32", tile: undefined };
const before = process.memoryUsage.rss();
const cells = Number(side) / 8;
await withVae("decoder", { run, pixels: [Number(side), Number(side)] }, context, (vae) => vae(float32([1, 16, cells, cells])));
console.log(highest() - before);
`;

async function measured(path: string, side: number): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", MEASURE, DIST, path, String(side)]);
  return Number(stdout);
}

/** Of what is planned, a decode takes at most all and at least this share: the margin is for runs that leave more of the arena unused. */
const LEAST = 1 / 3;

test.runIf(process.platform === "linux")("a decode takes what is planned for it", async () => {
  const path = join(folder, "vae.safetensors");
  await randomCheckpoint(path, publishedTensors("qwen_image_vae"));
  const file = await readNetworkFile(path, { name: "VAE", option: "--vae" });
  const needs = (side: number) => vaeNeeds("decoder", { run: { file, compute: "f32" }, pixels: [side, side] }, CPU);
  // Large enough that a run takes more than folding the weights did when the session opened.
  const [small, large] = [await measured(path, 384), await measured(path, 512)];
  const [plannedSmall, plannedLarge] = [planTiles(needs(384), undefined), planTiles(needs(512), undefined)];
  expect(large).toBeGreaterThan(plannedLarge.peak * LEAST);
  expect(large).toBeLessThanOrEqual(plannedLarge.peak);
  // What grows with the picture is what a run takes.
  const [grown, plannedGrowth] = [large - small, plannedLarge.activations - plannedSmall.activations];
  expect(grown).toBeGreaterThan(plannedGrowth * LEAST);
  expect(grown).toBeLessThanOrEqual(plannedGrowth);
});
