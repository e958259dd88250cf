// The Qwen-Image-Edit diffusion transformer: dual-stream blocks with joint attention over text, target and reference tokens.
// Ported from the mathematics of ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers
// transformer_qwenimage.py (58eb52c0). One call of this graph, or of its parts in order, is one evaluation of the velocity.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gelu, layerNorm, multiHeadAttention, rotary } from "../../graph/operators.js";
import { addDims, type DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, headNorm, linear, linears, rmsNormAt, unbatched } from "../layers.js";
import type { BlockRange } from "../transformer-family.js";
import {
  type BlockModulation,
  computedModulation,
  fedModulation,
  type Modulation,
  type ModulationSource,
} from "./modulation.js";
import type { TransformerConfig } from "./transformer-config.js";

/** Text and image tokens, each [tokens, width]. */
interface Tokens {
  readonly txt: Value;
  readonly img: Value;
}

/** Tokens in parts that are modulated alike: all in one, or target and references where these are modulated as at timestep 0. */
type Parts = readonly Value[];

/** The residual streams. */
interface Streams {
  readonly txt: Parts;
  readonly img: Parts;
}

/** What all blocks share. */
interface Shared {
  readonly config: TransformerConfig;
  /** Target and reference tokens [1, tokens, 64], for their lengths. */
  readonly images: readonly [target: Value, reference: Value];
  readonly rope: Rope;
}

/** Angles [1, tokens, head/2]. */
export interface Rope {
  readonly cos: Value;
  readonly sin: Value;
}

/** How a transformer's graph is built. */
export interface TransformerOptions {
  readonly config: TransformerConfig;
  readonly compute: DType;
  /** The blocks of this graph, all unless given. */
  readonly blocks?: BlockRange;
  /** Whether shifts, scales and gates are inputs, and their linears no part of the graph. */
  readonly isModulationFed?: boolean;
}

/**
 * Adds one evaluation of the velocity (noise minus data). Inputs, all f32: `latent_tokens` [1, target, 64] and
 * `reference_tokens` [1, reference, 64] (2×2 patches, normalised latents), `prompt_embeds` [1, text, 3584], `timestep` [1]
 * (sigma, 0..1) or `modulation.0` (see fedModulation), `rope_cos` and `rope_sin` [1, text+target+reference, head/2], text first.
 * Output: `velocity` [1, target, 64]. All arithmetic is in `compute`. A graph that begins with a later
 * block N takes `txt.N` [text, width] and `img.N` [target+reference, width] instead of the prompt; one that ends before block N gives them.
 */
export function buildTransformer(graph: Graph, w: Weights, options: TransformerOptions): void {
  const { config, compute, blocks = { from: 0, to: config.blocks }, isModulationFed = false } = options;
  const input = (name: string, length: string, width: number) =>
    graph.input(name, "f32", [1, length, width]).cast(compute);
  const target = input("latent_tokens", "target", config.patchWidth);
  const reference = input("reference_tokens", "reference", config.patchWidth);
  const first =
    blocks.from === 0
      ? embedTokens([target, reference], input("prompt_embeds", "text", config.textWidth), { w, config })
      : tokensBefore(blocks.from, { graph, config, compute });
  // Text first, as in the joint attention.
  const tokens = addDims(first.txt.dim(0), first.img.dim(0));
  const angles = (name: string) => graph.input(name, "f32", [1, tokens, config.headDim / 2]).cast(compute);
  const shared: Shared = {
    config,
    images: [target, reference],
    rope: { cos: angles("rope_cos"), sin: angles("rope_sin") },
  };
  const modulation = isModulationFed
    ? fedModulation(graph, { config, compute, blocks })
    : computedModulation(graph.input("timestep", "f32", [1]), w, { config, compute });

  const last = Math.min(blocks.to, config.blocks - 1);
  const streams = throughBlocks(first, { from: blocks.from, to: last }, { w, modulation, shared });
  if (blocks.to === config.blocks) {
    graph.output("velocity", velocity(streams, { w, modulation, shared }));
    return;
  }
  for (const name of ["txt", "img"] as const)
    graph.output(`${name}.${blocks.to}`, joinParts(streams[name]).cast("f32"));
}

/** What one evaluation of the velocity is computed from, all in the type of the arithmetic. */
export interface TransformerInputs {
  /** [1, target, 64] */
  readonly target: Value;
  /** [1, reference, 64] */
  readonly reference: Value;
  /** [1, text, 3584] */
  readonly prompt: Value;
  /** [1, text+target+reference, head/2], text first. */
  readonly rope: Rope;
  readonly modulation: ModulationSource;
}

/** One evaluation of the velocity as buildTransformer adds it, from values that a graph has already: f32 [1, target, 64]. */
export function transformerVelocity(
  { target, reference, prompt, rope, modulation }: TransformerInputs,
  w: Weights,
  config: TransformerConfig,
): Value {
  const first = embedTokens([target, reference], prompt, { w, config });
  const network = { w, modulation, shared: { config, images: [target, reference], rope } } as const;
  return velocity(throughBlocks(first, { from: 0, to: config.blocks - 1 }, network), network);
}

/** Whether a transformer reads no tensor of this name: the last block computes no queries and no results of the text. */
export function isIdleInLastBlock(name: string, { blocks }: TransformerConfig): boolean {
  const prefix = `transformer_blocks.${blocks - 1}.`;
  return (
    name.startsWith(prefix) &&
    /^(?:attn\.(?:add_q_proj|norm_added_q|to_add_out)|txt_mlp)\./.test(name.slice(prefix.length))
  );
}

interface Network {
  readonly w: Weights;
  readonly modulation: ModulationSource;
  readonly shared: Shared;
}

// All blocks but the last one, which gives no streams.
function throughBlocks(first: Tokens, { from, to }: BlockRange, { w, modulation, shared }: Network): Streams {
  let streams: Streams = {
    txt: [first.txt],
    img: shared.config.referencesAtZero ? first.img.splitLike(0, shared.images, 1) : [first.img],
  };
  for (let index = from; index < to; index += 1) {
    const block = { modulation: modulation.block(index), shared };
    streams = transformerBlock(streams, w.at("transformer_blocks").at(index), block);
  }
  return streams;
}

function embedTokens(
  images: readonly Value[],
  prompt: Value,
  { w, config }: { w: Weights; config: TransformerConfig },
): Tokens {
  return {
    img: linear(unbatched(concat(images, 1)), w.at("img_in")),
    txt: linear(rmsNormAt(unbatched(prompt), w.at("txt_norm"), config.epsilon), w.at("txt_in")),
  };
}

// Inputs of a graph that begins with a later block, as the graph before gives them.
function tokensBefore(
  block: number,
  { graph, config, compute }: { graph: Graph; config: TransformerConfig; compute: DType },
): Tokens {
  const stream = (name: string, length: string) =>
    graph.input(`${name}.${block}`, "f32", [length, config.heads * config.headDim]).cast(compute);
  return { txt: stream("txt", "text"), img: stream("img", "target+reference") };
}

interface BlockOptions {
  readonly modulation: BlockModulation;
  readonly shared: Shared;
}

function transformerBlock({ txt, img }: Streams, w: Weights, { modulation, shared }: BlockOptions): Streams {
  const { txt: txtMod, img: imgMod } = modulation;
  const normed = {
    txt: adaLayerNorm(txt, txtMod.attention, shared.config),
    img: adaLayerNorm(img, imgMod.attention, shared.config),
  };
  const attended = jointAttention(joinStreams(normed), w.at("attn"), shared);
  txt = w.scoped(() => addGated(txt, attended.txt, { modulation: txtMod.attention, shared }));
  img = w.scoped(() => addGated(img, attended.img, { modulation: imgMod.attention, shared }));

  const txtMlp = feedForward(joinParts(adaLayerNorm(txt, txtMod.feedForward, shared.config)), w.at("txt_mlp"));
  const imgMlp = feedForward(joinParts(adaLayerNorm(img, imgMod.feedForward, shared.config)), w.at("img_mlp"));
  txt = w.scoped(() => addGated(txt, txtMlp, { modulation: txtMod.feedForward, shared }));
  img = w.scoped(() => addGated(img, imgMlp, { modulation: imgMod.feedForward, shared }));
  return { txt, img };
}

const TXT = {
  q: "add_q_proj",
  normQ: "norm_added_q",
  k: "add_k_proj",
  normK: "norm_added_k",
  v: "add_v_proj",
} as const;
const IMG = { q: "to_q", normQ: "norm_q", k: "to_k", normK: "norm_k", v: "to_v" } as const;

function jointAttention({ txt, img }: Tokens, w: Weights, { config, rope }: Shared): Tokens {
  const project = (x: Value, keys: typeof TXT | typeof IMG) => {
    const [q, k, v] = linears(x, [w.at(keys.q), w.at(keys.k), w.at(keys.v)]) as [Value, Value, Value];
    return { q: headNorm(q, w.at(keys.normQ), config), k: headNorm(k, w.at(keys.normK), config), v };
  };
  const [text, image] = [project(txt, TXT), project(img, IMG)];
  const [txtOut, imgOut] = w.scoped(() => {
    const q = applyRope(textFirst(text.q, image.q), rope, config);
    const k = applyRope(textFirst(text.k, image.k), rope, config);
    const v = textFirst(text.v, image.v);
    return unbatched(multiHeadAttention({ q, k, v }, config.heads)).splitLike(0, [txt, img], 0);
  });
  return { txt: linear(txtOut!, w.at("to_add_out")), img: linear(imgOut!, w.at("to_out.0")) };
}

function feedForward(x: Value, w: Weights): Value {
  const inner = linear(x, w.at("net.0.proj"));
  return linear(
    w.scoped(() => gelu(inner, "tanh")),
    w.at("net.2"),
  );
}

// Gives the target tokens alone: of text and references, whose velocity is not wanted, only keys and values are computed.
function lastBlock({ txt, img }: Streams, w: Weights, { modulation, shared }: BlockOptions): Value {
  const { txt: txtMod, img: imgMod } = modulation;
  const [attention, mlp] = [imgMod.attention.slice(0, 1), imgMod.feedForward.slice(0, 1)];
  const normed = {
    txt: adaLayerNorm(txt, txtMod.attention, shared.config),
    img: adaLayerNorm(img, imgMod.attention, shared.config),
  };
  const targetOf = ([first, ...others]: Parts) =>
    others.length > 0 ? first! : w.scoped(() => first!.firstLike(0, shared.images[0], 1));
  const tokens = { ...joinStreams(normed), target: targetOf(normed.img) };
  const attended = targetAttention(tokens, w.at("attn"), shared);
  const target = [targetOf(img)];
  const sum = w.scoped(() => addGated(target, attended, { modulation: attention, shared }));
  const imgMlp = feedForward(joinParts(adaLayerNorm(sum, mlp, shared.config)), w.at("img_mlp"));
  return joinParts(w.scoped(() => addGated(sum, imgMlp, { modulation: mlp, shared })));
}

// Joint attention with queries of the target alone.
function targetAttention(
  { txt, img, target }: Tokens & { readonly target: Value },
  w: Weights,
  { config, rope, images }: Shared,
): Value {
  const queries = headNorm(linear(target, w.at(IMG.q)), w.at(IMG.normQ), config);
  const project = (x: Value, keys: typeof TXT | typeof IMG) => {
    const [k, v] = linears(x, [w.at(keys.k), w.at(keys.v)]) as [Value, Value];
    return { k: headNorm(k, w.at(keys.normK), config), v };
  };
  const [text, image] = [project(txt, TXT), project(img, IMG)];
  const attended = w.scoped(() => {
    const ofTarget = (angles: Value) => angles.splitLike(1, [batched(txt), ...images], 1)[1]!;
    const targetRope = { cos: ofTarget(rope.cos), sin: ofTarget(rope.sin) };
    const q = applyRope(batched(queries), targetRope, config);
    const k = applyRope(textFirst(text.k, image.k), rope, config);
    const v = textFirst(text.v, image.v);
    return unbatched(multiHeadAttention({ q, k, v }, config.heads));
  });
  return linear(attended, w.at("to_out.0"));
}

// Of the last block and the projection.
function velocity(streams: Streams, { w, modulation, shared }: Network): Value {
  const { config } = shared;
  const index = config.blocks - 1;
  const block = { modulation: modulation.block(index), shared };
  const target = lastBlock(streams, w.at("transformer_blocks").at(index), block);
  const { scale, shift } = modulation.final();
  const normed = w.at("norm_out").scoped(() => layerNorm(target, scale, shift, config.epsilon));
  return batched(linear(normed, w.at("proj_out"))).cast("f32");
}

// LayerNorm without weights of its own, then `· (1 + scale) + shift`, of each part.
function adaLayerNorm(parts: Parts, modulation: readonly Modulation[], { epsilon }: TransformerConfig): Parts {
  return parts.map((x, index) => layerNorm(x, modulation[index]!.scale, modulation[index]!.shift, epsilon));
}

// The residual connection, `x + result · gate`, of each part.
function addGated(
  parts: Parts,
  result: Value,
  { modulation, shared }: { modulation: readonly Modulation[]; shared: Shared },
): Parts {
  const results = parts.length === 1 ? [result] : result.splitLike(0, shared.images, 1);
  return parts.map((x, index) => x.add(results[index]!.mul(modulation[index]!.gate)));
}

function applyRope(x: Value, rope: Rope, { heads }: TransformerConfig): Value {
  return rotary(x, rope, { heads, pairs: "interleaved" });
}

function textFirst(text: Value, image: Value): Value {
  return batched(concat([text, image], 0));
}

function joinStreams({ txt, img }: Streams): Tokens {
  return { txt: joinParts(txt), img: joinParts(img) };
}

function joinParts(parts: Parts): Value {
  return parts.length === 1 ? parts[0]! : concat(parts, 0);
}
