// The language model of Qwen3-VL as a pure encoder: embeddings in, hidden states before the final norm out.
// Mathematics: transformers modeling_qwen3_vl.py (v5.24) and what diffusers' QwenImage21Pipeline (0.42.1) takes of it.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gather } from "../../graph/indexing.js";
import { causalAttention, rotary } from "../../graph/operators.js";
import type { Value } from "../../graph/value.js";
import { float32, type Tensor } from "../../std/tensor.js";
import { batched, headNorm, linear, rmsNormAt, unbatched } from "../layers.js";
import { feedForward } from "../qwen2.5-vl/language.js";
import type { LanguageBuild } from "../text-encoder-family.js";
import type { Qwen3Language } from "./qwen3-config.js";

interface Shared {
  readonly config: Qwen3Language;
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

/**
 * Adds the stack. Inputs, f32: `inputs_embeds` [1, tokens, width] (token embeddings with the pictures' spliced in), `rope_cos` and `rope_sin`
 * [1, tokens, head/2], and where the first layers take features of pictures, `picture_features.N` [rows, width] for layer N, whose row 0 is zeros,
 * with `feature_rows` i64 [tokens]: the row that is added to each token. Output f32: `hidden_states` [1, tokens, width] of the last layer. A graph that
 * begins with a later layer N takes `hidden.N` [tokens, width] instead of embeddings; one that ends before layer N gives it.
 */
export function buildQwen3Language(
  graph: Graph,
  w: Weights,
  { config, compute, layers: { from, to } = { from: 0, to: config.layers } }: LanguageBuild<Qwen3Language>,
): void {
  const input = (name: string, width: number) => graph.input(name, "f32", [1, "tokens", width]).cast(compute);
  const rope = { cos: input("rope_cos", config.headDim / 2), sin: input("rope_sin", config.headDim / 2) };
  let x =
    from === 0
      ? unbatched(input("inputs_embeds", config.width))
      : graph.input(`hidden.${from}`, "f32", ["tokens", config.width]).cast(compute);
  const rows = from < config.pictureFeatures ? graph.input("feature_rows", "i64", ["tokens"]) : undefined;
  const features = (layer: number) =>
    graph.input(`picture_features.${layer}`, "f32", ["feature rows", config.width]).cast(compute);
  for (let index = from; index < to; index += 1) {
    x = decoderLayer(x, w.at("model.layers").at(index), { config, rope });
    if (rows !== undefined && index < config.pictureFeatures) x = x.add(gather(features(index), rows));
  }
  if (to === config.layers) graph.output("hidden_states", batched(x).cast("f32"));
  else graph.output(`hidden.${to}`, x.cast("f32"));
}

/** What the language model takes of a graph that has it already, in the type of the arithmetic. */
export interface Qwen3Inputs {
  /** Embeddings [tokens, width]. */
  readonly embeds: Value;
  /** Angles [1, tokens, head/2]. */
  readonly rope: { readonly cos: Value; readonly sin: Value };
  /** What is added behind each of the first layers, [tokens, width]. */
  readonly features: readonly Value[];
}

/** The hidden states that buildQwen3Language gives, from values that a graph has already: f32 [1, tokens, width]. */
export function qwen3States({ embeds, rope, features }: Qwen3Inputs, w: Weights, config: Qwen3Language): Value {
  let x = embeds;
  for (let index = 0; index < config.layers; index += 1) {
    x = decoderLayer(x, w.at("model.layers").at(index), { config, rope });
    const added = features[index];
    if (added !== undefined) x = x.add(added);
  }
  return batched(x).cast("f32");
}

/** Names that the graphs do not read, and why they need not. */
const IDLE: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  { pattern: /^lm_head\./, reason: "the output head: an encoder predicts no token" },
  { pattern: /^model\.norm\./, reason: "the final norm: the transformer was trained on what goes into it" },
  { pattern: /^model\.embed_tokens\.weight$/, reason: "looked up outside the graphs" },
  { pattern: /^scaled_fp8$/, reason: "a marker, which types and scales repeat" },
  { pattern: /(^|\.)(rotary_emb|rotary_pos_emb)\.inv_freq$/, reason: "computed from the configuration" },
  { pattern: /(^|\.)logit_scale$/, reason: "ComfyUI saves one with every text encoder" },
];

/** Whether the graphs of the text encoder need not read a tensor of this name. */
export function isIdleInQwen3(name: string): boolean {
  return IDLE.some(({ pattern }) => pattern.test(name));
}

function decoderLayer(x: Value, w: Weights, shared: Shared): Value {
  const { epsilon } = shared.config;
  const attended = attention(rmsNormAt(x, w.at("input_layernorm"), epsilon), w.at("self_attn"), shared);
  const y = w.scoped(() => x.add(attended));
  const fed = feedForward(rmsNormAt(y, w.at("post_attention_layernorm"), epsilon), w.at("mlp"));
  return w.scoped(() => y.add(fed));
}

function attention(x: Value, w: Weights, { config, rope }: Shared): Value {
  const { heads, keyValueHeads, epsilon } = config;
  const q = headNorm(linear(x, w.at("q_proj")), w.at("q_norm"), { heads, epsilon });
  const k = headNorm(linear(x, w.at("k_proj")), w.at("k_norm"), { heads: keyValueHeads, epsilon });
  const v = batched(linear(x, w.at("v_proj")));
  const attended = w.scoped(() =>
    causalAttention(
      {
        q: rotary(batched(q), rope, { heads, pairs: "halves" }),
        k: rotary(batched(k), rope, { heads: keyValueHeads, pairs: "halves" }),
        v,
      },
      { query: heads, keyValue: keyValueHeads },
    ),
  );
  return linear(unbatched(attended), w.at("o_proj"));
}

/** Cosines and sines [1, tokens, head/2] of interleaved M-RoPE: `positions` holds the time, row and column of every token, three rows. */
export function interleavedRope(
  positions: readonly (readonly number[])[],
  { headDim, ropeSections, ropeTheta }: Qwen3Language,
): { cos: Tensor<"float32">; sin: Tensor<"float32"> } {
  const half = headDim / 2;
  const tokens = positions[0]!.length;
  const [cos, sin] = [float32([1, tokens, half]), float32([1, tokens, half])];
  for (let k = 0; k < half; k += 1) {
    const axis = interleavedAxis(k, ropeSections);
    const frequency = ropeTheta ** ((-2 * k) / headDim);
    for (let token = 0; token < tokens; token += 1) {
      const angle = positions[axis]![token]! * frequency;
      cos.data[token * half + k] = Math.cos(angle);
      sin.data[token * half + k] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

/** The axis that rotates a pair. They take turns: time, row, column, and time again where the sections of the others have ended. */
export function interleavedAxis(pair: number, sections: readonly number[]): number {
  const axis = pair % 3;
  return pair < 3 * sections[axis]! ? axis : 0;
}
