// The vision tower of Qwen3-VL: patches of a picture to tokens of the language model's width in raster order, and to the features that its first
// layers take. Mathematics: transformers modeling_qwen3_vl.py and vision_utils.py (v5.24).
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gather } from "../../graph/indexing.js";
import { gelu, gemm, layerNorm, multiHeadAttention, rotary } from "../../graph/operators.js";
import { multiplyDims } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { float32, type Tensor, tensor } from "../../std/tensor.js";
import { batched, linear, unbatched } from "../layers.js";
import { patchPlaces, VISION_ROPE_THETA } from "../qwen2.5-vl/vision.js";
import { weightAt } from "../stored-weight.js";
import type { GraphLayers, PatchGrid, VisionBuild } from "../text-encoder-family.js";
import type { Qwen3Vision } from "./qwen3-config.js";

interface Shared {
  readonly config: Qwen3Vision;
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

/** Learned positions that a patch lies between. */
const CORNERS = 4;

/**
 * Adds the tower for one picture. Inputs, f32: `pixel_values` [patches, channels·frames·patch²], 2×2 patches of a merged token in a row, `rope_cos`
 * and `rope_sin` [1, patches, head/2]; `position_rows` i64 and `position_shares` f32 [4, patches]: the learned positions around each patch, and
 * how much each counts. Outputs f32 [tokens, width of the language model]: `image_embeds`, and for its layer N `picture_features.N`. A graph that
 * begins with a later block N takes `patches.N` [patches, width] instead of pixels and positions; one that ends before block N gives it.
 */
export function buildQwen3Vision(
  graph: Graph,
  w: Weights,
  { config, compute, blocks: { from, to } = { from: 0, to: config.blocks } }: VisionBuild<Qwen3Vision>,
): void {
  const { width } = config;
  const patches = multiplyDims(config.mergeSize ** 2, "tokens");
  const input = (name: string, shape: readonly (number | string)[]) => graph.input(name, "f32", shape).cast(compute);
  const angles = [1, patches, width / config.heads / 2];
  const first = () => {
    const pixels = input("pixel_values", [patches, config.channels * config.temporalPatchSize * config.patchSize ** 2]);
    const rows = graph.input("position_rows", "i64", [CORNERS, patches]);
    const shares = graph.input("position_shares", "f32", [CORNERS, patches]);
    return embeddedPatches({ pixels, rows, shares }, w, width);
  };
  const x = from === 0 ? first() : input(`patches.${from}`, [patches, width]);
  const shared = { config, rope: { cos: input("rope_cos", angles), sin: input("rope_sin", angles) } };
  const seen = throughBlocks(x, w, { shared, blocks: { from, to } });
  for (const { feature, value } of seen.features) graph.output(`picture_features.${feature}`, value);
  if (to < config.blocks) graph.output(`patches.${to}`, seen.x.cast("f32"));
  else graph.output("image_embeds", merger(seen.x, w.at("visual.merger"), { config, normed: "patches" }).cast("f32"));
}

/** Pixels of patches [patches, …] in the type of the arithmetic, and where they lie: see buildQwen3Vision. */
interface PlacedPatches {
  readonly pixels: Value;
  readonly rows: Value;
  readonly shares: Value;
}

/** What the tower takes of one picture from a graph that has it already. */
export interface Qwen3Patches extends PlacedPatches {
  /** Angles [1, patches, head/2], in the type of the arithmetic. */
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

/** What buildQwen3Vision gives, from values that a graph has already: embeddings and the features of each layer, f32 [tokens, width of the language model]. */
export function qwen3VisionOutputs(
  { rope, ...placed }: Qwen3Patches,
  w: Weights,
  config: Qwen3Vision,
): { readonly embeds: Value; readonly features: readonly Value[] } {
  const blocks = { from: 0, to: config.blocks };
  const { x, features } = throughBlocks(embeddedPatches(placed, w, config.width), w, {
    shared: { config, rope },
    blocks,
  });
  return {
    embeds: merger(x, w.at("visual.merger"), { config, normed: "patches" }).cast("f32"),
    features: features.toSorted((a, b) => a.feature - b.feature).map(({ value }) => value),
  };
}

function embeddedPatches({ pixels, rows, shares }: PlacedPatches, w: Weights, width: number): Value {
  const placed = positionEmbedding(w.at("visual.pos_embed"), { rows, shares }).cast(pixels.dtype);
  return patchEmbedding(pixels, w.at("visual.patch_embed.proj"), width).add(placed);
}

function throughBlocks(
  first: Value,
  w: Weights,
  { shared, blocks: { from, to } }: { readonly shared: Shared; readonly blocks: GraphLayers },
): { readonly x: Value; readonly features: readonly { readonly feature: number; readonly value: Value }[] } {
  const { config } = shared;
  const features: { feature: number; value: Value }[] = [];
  let x = first;
  for (let index = from; index < to; index += 1) {
    x = visionBlock(x, w.at("visual.blocks").at(index), shared);
    const feature = config.featureBlocks.indexOf(index);
    if (feature < 0) continue;
    const merged = merger(x, w.at("visual.deepstack_merger_list").at(feature), { config, normed: "tokens" });
    features.push({ feature, value: merged.cast("f32") });
  }
  return { x, features };
}

// A convolution whose stride is its kernel is a matrix product over patches.
function patchEmbedding(pixels: Value, w: Weights, width: number): Value {
  return w.scoped(() =>
    gemm(pixels, weightAt(w, pixels.dtype).reshape([width, pixels.dim(1)]), w.get("bias").cast(pixels.dtype)),
  );
}

// Bilinear interpolation of a square of learned positions, in float32.
function positionEmbedding(w: Weights, { rows, shares }: { readonly rows: Value; readonly shares: Value }): Value {
  return w.scoped(() => {
    const table = weightAt(w, "f32");
    const patches = rows.dim(1);
    const corners = Array.from({ length: CORNERS }, (_, corner) => {
      const own = (of: Value) => of.slice(0, corner, corner + 1);
      return gather(table, own(rows).reshape([patches])).mul(own(shares).reshape([patches, 1]));
    });
    return corners.reduce((sum, each) => sum.add(each));
  });
}

function visionBlock(x: Value, w: Weights, shared: Shared): Value {
  const { epsilon } = shared.config;
  const attended = attention(layerNormAt(x, w.at("norm1"), epsilon), w.at("attn"), shared);
  const y = w.scoped(() => x.add(attended));
  const inner = linear(layerNormAt(y, w.at("norm2"), epsilon), w.at("mlp.linear_fc1"));
  const fed = linear(
    w.scoped(() => gelu(inner, "tanh")),
    w.at("mlp.linear_fc2"),
  );
  return w.scoped(() => y.add(fed));
}

function attention(x: Value, w: Weights, { config: { heads }, rope }: Shared): Value {
  const qkv = linear(x, w.at("qkv"));
  const attended = w.scoped(() => {
    const [q, k, v] = qkv.chunk(3, 1).map(batched) as [Value, Value, Value];
    const applyRope = (of: Value) => rotary(of, rope, { heads, pairs: "halves" });
    return unbatched(multiHeadAttention({ q: applyRope(q), k: applyRope(k), v }, heads));
  });
  return linear(attended, w.at("proj"));
}

// The last merger normalises each patch, those of features each token.
function merger(
  x: Value,
  w: Weights,
  { config: { mergeSize, width, epsilon }, normed }: { config: Qwen3Vision; normed: "patches" | "tokens" },
): Value {
  const merge = (of: Value) => w.scoped(() => of.reshape(["tokens", width * mergeSize ** 2]));
  const norm = (of: Value) => layerNormAt(of, w.at("norm"), epsilon);
  const hidden = linear(normed === "patches" ? merge(norm(x)) : norm(merge(x)), w.at("linear_fc1"));
  return linear(
    w.scoped(() => gelu(hidden, "none")),
    w.at("linear_fc2"),
  );
}

function layerNormAt(x: Value, w: Weights, epsilon: number): Value {
  return w.scoped(() => layerNorm(x, weightAt(w, x.dtype), w.get("bias").cast(x.dtype), epsilon));
}

/** Everything the tower takes besides pixels. */
export interface Qwen3Geometry {
  readonly rope_cos: Tensor<"float32">;
  readonly rope_sin: Tensor<"float32">;
  readonly position_rows: Tensor<"int64">;
  readonly position_shares: Tensor<"float32">;
}

/** Rotary tables by row and column of each patch, and where it lies among the learned positions, whose corners are those of the picture. */
export function qwen3Geometry(grid: PatchGrid, config: Qwen3Vision): Qwen3Geometry {
  const places = patchPlaces(grid, config.mergeSize);
  const count = places.length;
  const half = config.width / config.heads / 2;
  const quarter = half / 2;
  const [cos, sin] = [float32([1, count, half]), float32([1, count, half])];
  const rows = new BigInt64Array(CORNERS * count);
  const shares = float32([CORNERS, count]);
  const [down, across] = [axisShares(grid.rows, config.positionSide), axisShares(grid.columns, config.positionSide)];
  places.forEach(({ row, column }, patch) => {
    for (let k = 0; k < half; k += 1) {
      const angle = (k < quarter ? row : column) * VISION_ROPE_THETA ** (-(k % quarter) / quarter);
      cos.data[patch * half + k] = Math.cos(angle);
      sin.data[patch * half + k] = Math.sin(angle);
    }
    down(row).forEach((y, i) => {
      across(column).forEach((x, j) => {
        const at = (2 * i + j) * count + patch;
        rows[at] = BigInt(y.place * config.positionSide + x.place);
        shares.data[at] = Math.fround(y.share * x.share);
      });
    });
  });
  return {
    ...{ rope_cos: cos, rope_sin: sin },
    ...{ position_rows: tensor("int64", [CORNERS, count], rows), position_shares: shares },
  };
}

interface Share {
  readonly place: number;
  readonly share: number;
}

// The two of `side` learned places that a patch, one of `length`, lies between. In float32, as the reference has it.
function axisShares(length: number, side: number): (index: number) => readonly [Share, Share] {
  return (index) => {
    const at = Math.fround(Math.fround(index * (side - 1)) / Math.max(length - 1, 1));
    const before = Math.floor(at);
    const share = Math.fround(at - before);
    return [
      { place: before, share: Math.fround(1 - share) },
      { place: Math.min(before + 1, side - 1), share },
    ];
  };
}
