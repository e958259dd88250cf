// The VAE on tiles against the VAE on the whole picture: tiny ones of several shapes, and one of the published widths.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { randomCheckpoint } from "../../bench/random-checkpoint.js";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { buildVaeDecoder, buildVaeEncoder, localReach } from "../../src/models/vaes.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { vaeNeeds, withVae } from "../../src/stages/networks/open-vae.js";
import { inTiles, planTiles } from "../../src/stages/networks/tiles.js";
import { elementCount, float32, type Tensor } from "../../src/std/tensor.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { fixture } from "../support/golden.js";

/** ONNX Runtime lays out the two parts otherwise than the whole, and so sums in another order; tiny VAEs, whose norms run over 2 channels, make more of it. */
const OTHER_ORDER = 1e-5;

const CPU = { provider: "cpu", index: 0, threads: 0 } as const;
const engine = await directEngine(CPU);
const folder = await mkdtemp(join(tmpdir(), "qedit-tiles-"));
afterAll(async () => {
  await engine.dispose();
  await rm(folder, { recursive: true, force: true });
});

function vaeFile(path: string) {
  return openModel(path, "vae");
}

function noise(shape: readonly number[], seed: number): Tensor<"float32"> {
  return float32(shape, randn(BigInt(seed), elementCount(shape)));
}

/** A picture in 0..1 of smooth noise. */
function picture(shape: readonly number[]): Tensor<"float32"> {
  return float32(
    shape,
    randn(5n, elementCount(shape)).map((value) => Math.min(Math.max(0.5 + value / 6, 0), 1)),
  );
}

async function both(
  path: string,
  half: "encoder" | "decoder",
  { input, tile, pixels }: { input: Tensor<"float32">; tile: number; pixels: readonly [number, number] },
) {
  const file = await vaeFile(path);
  const context = { engine, emit: () => {}, signal: new AbortController().signal };
  const run = (size: number | undefined) =>
    withVae(half, { run: { file, compute: "f32", tile: size }, pixels }, context, (vae) => vae(input));
  return { whole: await run(undefined), tiled: await run(tile) };
}

const HALVES = [
  ["vae", "decoder"],
  ["vae", "encoder"],
  ["vae-fp32", "decoder"],
  ["vae-fp32", "encoder"],
  ["vae-other", "decoder"],
  ["vae-other", "encoder"],
] as const;

test.each(HALVES)(
  "what the %s %s does on tiles is bit for bit what it does on the whole, and a narrower margin is too little",
  async (name, half) => {
    const file = await vaeFile(fixture(`tiny/${name}.safetensors`));
    const reach = localReach(numbersOf(file.checkpoint), half);
    const graph = new Graph("local");
    const build = half === "encoder" ? buildVaeEncoder : buildVaeDecoder;
    build(graph, Weights.of(graph, file.checkpoint), { part: "local" });
    const [from, to] = half === "encoder" ? [reach.ratio, 1] : [1, reach.ratio];
    const area = [40 * from, 6 * from] as const;
    const input = half === "encoder" ? picture([1, 3, ...area]) : noise([1, reach.channels, ...area], 3);
    await withSession(engine, await modelOf(graph, "full"), async (session) => {
      const run = async (given: Tensor<"float32">) =>
        Object.values(
          await session.run({ [half === "encoder" ? "image" : "features"]: given }),
        )[0] as Tensor<"float32">;
      const tiled = (margin: number) => inTiles(input, { tile: 8, reach: { ...reach, margin }, from, to }, run);
      const whole = await run(input);
      expect((await tiled(reach.margin)).data).toEqual(whole.data);
      // The last feature or two of the margin can be too faint to see.
      expect((await tiled(reach.margin - 3)).data).not.toEqual(whole.data);
    });
  },
);

test.each(HALVES)("the %s %s opened for tiles gives what it gives on the whole picture", async (name, half) => {
  const input = half === "encoder" ? picture([1, 3, 320, 48]) : noise([1, 16, 40, 6], 3);
  const { whole, tiled } = await both(fixture(`tiny/${name}.safetensors`), half, {
    input,
    tile: 64,
    pixels: [320, 48],
  });
  expect(scaledError(tiled.data, whole.data)).toBeLessThanOrEqual(TOLERANCE.edit);
});

test("a VAE of the published widths gives on tiles what it gives on the whole picture", async () => {
  const path = join(folder, "vae.safetensors");
  await randomCheckpoint(path, publishedTensors("qwen_image_vae"));
  const decoded = await both(path, "decoder", { input: noise([1, 16, 2, 48], 7), tile: 64, pixels: [16, 384] });
  expect(scaledError(decoded.tiled.data, decoded.whole.data)).toBeLessThanOrEqual(OTHER_ORDER);
  const encoded = await both(path, "encoder", { input: picture([1, 3, 16, 384]), tile: 64, pixels: [16, 384] });
  expect(scaledError(encoded.tiled.data, encoded.whole.data)).toBeLessThanOrEqual(OTHER_ORDER);
  const numbers = numbersOf((await vaeFile(path)).checkpoint);
  expect([localReach(numbers, "decoder"), localReach(numbers, "encoder")]).toEqual([
    { channels: 384, ratio: 8, margin: 13 },
    { channels: 384, ratio: 8, margin: 10 },
  ]);
});

test("tiles cover every size and shape of picture once", async () => {
  const reach = { channels: 1, ratio: 2, margin: 2 };
  for (const [height, width, tile] of [
    [7, 11, 3],
    [4, 4, 8],
    [1, 9, 4],
    [12, 12, 4],
  ] as const) {
    const input = float32(
      [1, 1, height, width],
      Float32Array.from({ length: height * width }, (_, index) => index),
    );
    const sizes = new Set<string>();
    const joined = await inTiles(input, { tile, reach, from: 1, to: 1 }, async (part) => {
      sizes.add(part.shape.join());
      return part;
    });
    expect(joined.data).toEqual(input.data);
    expect(sizes.size).toBe(1);
  }
});

test("the plan takes the largest tiles that fit, and the forced ones where they fit", async () => {
  const file = await vaeFile(fixture("tiny/vae.safetensors"));
  const needs = vaeNeeds("decoder", { run: { file, compute: "f32" }, pixels: [1024, 1024] }, CPU);
  const whole = planTiles(needs, undefined);
  expect(whole.tile).toBeUndefined();
  const half = planTiles(needs, whole.peak * 0.7);
  expect(half).toMatchObject({ tile: 64, isOverBudget: false });
  expect(half.peak).toBeLessThan(whole.peak * 0.7);
  const less = planTiles(needs, half.peak * 0.8);
  expect(less.tile).toBeLessThan(64);
  expect(planTiles(needs, undefined, 256).tile).toBe(32);
  expect(planTiles(needs, 1000)).toMatchObject({ isOverBudget: true });
});
