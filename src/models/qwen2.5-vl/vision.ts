// The vision tower of Qwen2.5-VL: patches of a picture to tokens of the language model's width, in raster order.
// Mathematics: transformers modeling_qwen2_5_vl.py (v4.57). The reference permutes tokens so that windows are contiguous;
// attention does not depend on order, so here tokens stay in raster order and a mask keeps each to its window.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gelu, gemm, multiHeadAttention, rotary } from "../../graph/operators.js";
import { multiplyDims } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { float32, type Tensor } from "../../std/tensor.js";
import { batched, linear, rmsNormAt, unbatched } from "../layers.js";
import { weightAt } from "../stored-weight.js";
import type { PatchGrid, VisionBuild } from "../text-encoder-family.js";
import { feedForward } from "./language.js";
import type { VisionConfig } from "./text-encoder-config.js";

/** Base of the rotary frequencies. */
export const VISION_ROPE_THETA = 10000;

interface Shared {
  readonly config: VisionConfig;
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

/**
 * Adds the tower for one picture. Inputs, f32: `pixel_values` [patches, channels·frames·patch²], 2×2 patches of a merged
 * token in a row, `rope_cos` and `rope_sin` [1, patches, head/2], `window_mask` [1, 1, patches, patches] (0 or −∞), where a block attends
 * within windows. Output f32: `image_embeds` [tokens, width of the language model]. A graph that begins with a later block N takes
 * `patches.N` [patches, width] instead of pixels; one that ends before block N gives it.
 */
export function buildVisionTower(
  graph: Graph,
  w: Weights,
  { config, compute, blocks = { from: 0, to: config.blocks } }: VisionBuild<VisionConfig>,
): void {
  const patches = multiplyDims(config.mergeSize ** 2, "tokens");
  const input = (name: string, shape: readonly (number | string)[]) => graph.input(name, "f32", shape).cast(compute);
  const values = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  const angles = [1, patches, config.width / config.heads / 2];
  const given =
    blocks.from === 0
      ? input("pixel_values", [patches, values])
      : input(`patches.${blocks.from}`, [patches, config.width]);
  const shared = { config, rope: { cos: input("rope_cos", angles), sin: input("rope_sin", angles) } };
  const indices = Array.from({ length: blocks.to - blocks.from }, (_, offset) => blocks.from + offset);
  const isFull = (index: number) => config.fullAttentionBlocks.includes(index);
  const mask = indices.every(isFull) ? undefined : input("window_mask", [1, 1, patches, patches]);

  const first = blocks.from === 0 ? patchEmbedding(given, w.at("visual.patch_embed.proj"), config) : given;
  const x = throughBlocks(first, w, { ...shared, mask, indices });
  if (blocks.to === config.blocks) graph.output("image_embeds", merger(x, w.at("visual.merger"), config).cast("f32"));
  else graph.output(`patches.${blocks.to}`, x.cast("f32"));
}

/** What the tower takes of one picture, all in the type of the arithmetic; see buildVisionTower. */
export interface VisionInputs {
  readonly pixels: Value;
  readonly rope: { readonly cos: Value; readonly sin: Value };
  readonly mask: Value;
}

/** The embeddings that buildVisionTower gives, from values that a graph has already: f32 [tokens, width of the language model]. */
export function visionEmbeds({ pixels, rope, mask }: VisionInputs, w: Weights, config: VisionConfig): Value {
  const indices = Array.from({ length: config.blocks }, (_, index) => index);
  const first = patchEmbedding(pixels, w.at("visual.patch_embed.proj"), config);
  return merger(throughBlocks(first, w, { config, rope, mask, indices }), w.at("visual.merger"), config).cast("f32");
}

function throughBlocks(
  first: Value,
  w: Weights,
  { config, rope, mask, indices }: Shared & { mask: Value | undefined; indices: readonly number[] },
): Value {
  let x = first;
  for (const index of indices) {
    const isFull = config.fullAttentionBlocks.includes(index);
    x = visionBlock(x, w.at("visual.blocks").at(index), {
      ...{ config, rope },
      ...(isFull || mask === undefined ? {} : { mask }),
    });
  }
  return x;
}

// A convolution whose stride is its kernel is a matrix product over patches.
function patchEmbedding(pixels: Value, w: Weights, { width }: VisionConfig): Value {
  return w.scoped(() => gemm(pixels, weightAt(w, pixels.dtype).reshape([width, pixels.dim(1)])));
}

function visionBlock(x: Value, w: Weights, shared: Shared & { mask?: Value }): Value {
  const { epsilon } = shared.config;
  const attended = attention(rmsNormAt(x, w.at("norm1"), epsilon), w.at("attn"), shared);
  const y = w.scoped(() => x.add(attended));
  const fed = feedForward(rmsNormAt(y, w.at("norm2"), epsilon), w.at("mlp"));
  return w.scoped(() => y.add(fed));
}

function attention(x: Value, w: Weights, { config, rope, mask }: Shared & { mask?: Value }): Value {
  const { heads } = config;
  const qkv = linear(x, w.at("qkv"));
  const attended = w.scoped(() => {
    const [q, k, v] = qkv.chunk(3, 1).map(batched) as [Value, Value, Value];
    const applyRope = (x: Value) => rotary(x, rope, { heads, pairs: "halves" });
    return unbatched(multiHeadAttention({ q: applyRope(q), k: applyRope(k), v }, heads, mask));
  });
  return linear(attended, w.at("proj"));
}

function merger(x: Value, w: Weights, { mergeSize, width, epsilon }: VisionConfig): Value {
  const normed = rmsNormAt(x, w.at("ln_q"), epsilon);
  const merged = w.scoped(() => normed.reshape(["tokens", width * mergeSize ** 2]));
  const hidden = linear(merged, w.at("mlp.0"));
  return linear(
    w.scoped(() => gelu(hidden, "none")),
    w.at("mlp.2"),
  );
}

/** Everything the tower takes besides pixels. */
export interface VisionGeometry {
  readonly rope_cos: Tensor<"float32">;
  readonly rope_sin: Tensor<"float32">;
  readonly window_mask: Tensor<"float32">;
}

/** Rotary tables by row and column of each patch, and the mask of its attention window. */
export function visionGeometry(grid: PatchGrid, config: VisionConfig): VisionGeometry {
  const places = patchPlaces(grid, config.mergeSize);
  const quarter = config.width / config.heads / 4;
  const shape = [1, places.length, 2 * quarter];
  const [cos, sin] = [float32(shape), float32(shape)];
  places.forEach(({ row, column }, patch) => {
    for (let k = 0; k < 2 * quarter; k += 1) {
      const angle = (k < quarter ? row : column) * VISION_ROPE_THETA ** (-(k % quarter) / quarter);
      cos.data[patch * 2 * quarter + k] = Math.cos(angle);
      sin.data[patch * 2 * quarter + k] = Math.sin(angle);
    }
  });
  return { rope_cos: cos, rope_sin: sin, window_mask: windowMask(places, grid, config) };
}

/** Rows and columns in the order of the patches: merged tokens in raster order, the patches of one token in raster order. */
export function patchPlaces({ rows, columns }: PatchGrid, mergeSize: number): { row: number; column: number }[] {
  const places = [];
  for (let blockRow = 0; blockRow < rows; blockRow += mergeSize) {
    for (let blockColumn = 0; blockColumn < columns; blockColumn += mergeSize) {
      for (let dy = 0; dy < mergeSize; dy += 1) {
        for (let dx = 0; dx < mergeSize; dx += 1) places.push({ row: blockRow + dy, column: blockColumn + dx });
      }
    }
  }
  return places;
}

/** Patches along one side of an attention window. */
export function windowSide({ windowSize, mergeSize, patchSize }: VisionConfig): number {
  return Math.floor(windowSize / mergeSize / patchSize) * mergeSize;
}

function windowMask(
  places: readonly { row: number; column: number }[],
  grid: PatchGrid,
  config: VisionConfig,
): Tensor<"float32"> {
  const side = windowSide(config);
  const across = Math.ceil(grid.columns / side);
  const windows = places.map(({ row, column }) => Math.floor(row / side) * across + Math.floor(column / side));
  const mask = float32([1, 1, places.length, places.length]);
  windows.forEach((window, patch) => {
    for (let other = 0; other < windows.length; other += 1) {
      if (windows[other] !== window) mask.data[patch * windows.length + other] = -Infinity;
    }
  });
  return mask;
}
