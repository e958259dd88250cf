// The blocks of Qwen-Image's transformer: dual streams of text and image tokens with joint attention.
// Mathematics: ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers transformer_qwenimage.py (58eb52c0).
import type { Weights } from "../../checkpoint/weights.js";
import { gelu, layerNorm, multiHeadAttention, rotary } from "../../graph/operators.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, headNorm, linear, linears, rmsNormAt, unbatched } from "../layers.js";
import type { BlockRange } from "../transformer-family.js";
import type { BlockModulation, FinalModulation, Modulation, ModulationSource } from "./modulation.js";
import type { TransformerConfig } from "./transformer-config.js";

/** Text and image tokens, each [tokens, width]. */
export interface Tokens {
  readonly txt: Value;
  readonly img: Value;
}

/** Tokens in parts that are modulated alike: all in one, or target and references where these are modulated as at timestep 0. */
type Parts = readonly Value[];

/** The residual streams. */
export interface Streams {
  readonly txt: Parts;
  readonly img: Parts;
}

/** What all blocks share. */
export interface Shared {
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

/** What all blocks read. */
export interface Network {
  readonly w: Weights;
  readonly modulation: ModulationSource;
  readonly shared: Shared;
}

/** Tokens through some blocks, not the last one, which gives no streams. */
export function throughBlocks(first: Tokens, { from, to }: BlockRange, { w, modulation, shared }: Network): Streams {
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

/** The tokens that pictures [1, tokens, 64] and a prompt [1, text, 3584] begin with. */
export function embedTokens(
  images: readonly Value[],
  prompt: Value,
  { w, config }: { w: Weights; config: TransformerConfig },
): Tokens {
  return {
    img: embedImages(images, w),
    txt: linear(rmsNormAt(unbatched(prompt), w.at("txt_norm"), config.epsilon), w.at("txt_in")),
  };
}

/** The tokens [tokens, width] of pictures [1, tokens, 64]. */
export function embedImages(images: readonly Value[], w: Weights): Value {
  return linear(unbatched(concat(images, 1)), w.at("img_in"));
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
    others.length > 0 ? first! : w.scoped(() => targetTokens(first!, shared));
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

/** The target tokens [target, width] among those of all images. */
export function targetTokens(img: Value, { images }: Shared): Value {
  return img.firstLike(0, images[0], 1);
}

/** The target tokens [target, width] behind the last block, from the streams before it. */
export function throughLastBlock(streams: Streams, { w, modulation, shared }: Network): Value {
  const index = shared.config.blocks - 1;
  const block = { modulation: modulation.block(index), shared };
  return lastBlock(streams, w.at("transformer_blocks").at(index), block);
}

/** The velocity f32 [1, target, 64] of the target tokens behind the last block. */
export function velocityOf(target: Value, { scale, shift }: FinalModulation, { w, shared }: Network): Value {
  const normed = w.at("norm_out").scoped(() => layerNorm(target, scale, shift, shared.config.epsilon));
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

/** Both streams, each as one. */
export function joinStreams({ txt, img }: Streams): Tokens {
  return { txt: joinParts(txt), img: joinParts(img) };
}

function joinParts(parts: Parts): Value {
  return parts.length === 1 ? parts[0]! : concat(parts, 0);
}
