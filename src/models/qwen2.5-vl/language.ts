// The language model of Qwen2.5-VL as a pure encoder: embeddings in, hidden states after the final norm out.
// Mathematics: transformers modeling_qwen2_5_vl.py (v4.57) and ComfyUI v0.3.64 comfy/text_encoders/llama.py (a125cd84).
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { causalAttention, rotary, silu } from "../../graph/operators.js";
import type { Value } from "../../graph/value.js";
import { float32, type Tensor } from "../../std/tensor.js";
import { batched, linear, rmsNormAt, unbatched } from "../layers.js";
import type { LanguageBuild } from "../text-encoder-family.js";
import type { LanguageConfig } from "./text-encoder-config.js";

interface Rope {
  readonly cos: Value;
  readonly sin: Value;
}

interface Shared {
  readonly config: LanguageConfig;
  readonly rope: Rope;
}

/**
 * Adds the stack. Inputs, f32: `inputs_embeds` [1, tokens, width] (token embeddings with the pictures' spliced in), `rope_cos` and
 * `rope_sin` [1, tokens, head/2]. Output f32: `hidden_states` [1, tokens, width], last layer, after the final norm. A graph that
 * begins with a later layer N takes `hidden.N` [tokens, width] instead of embeddings; one that ends before layer N gives it.
 */
export function buildLanguageModel(
  graph: Graph,
  w: Weights,
  { config, compute, layers = { from: 0, to: config.layers } }: LanguageBuild<LanguageConfig>,
): void {
  const input = (name: string, width: number) => graph.input(name, "f32", [1, "tokens", width]).cast(compute);
  const given =
    layers.from === 0
      ? unbatched(input("inputs_embeds", config.width))
      : graph.input(`hidden.${layers.from}`, "f32", ["tokens", config.width]).cast(compute);
  const shared = {
    config,
    rope: { cos: input("rope_cos", config.headDim / 2), sin: input("rope_sin", config.headDim / 2) },
  };
  const x = throughLayers(given, w, { shared, layers });
  if (layers.to === config.layers) graph.output("hidden_states", finalStates(x, w, config));
  else graph.output(`hidden.${layers.to}`, x.cast("f32"));
}

/**
 * The hidden states that buildLanguageModel gives, from values that a graph has already, in the type of the arithmetic: embeddings
 * [tokens, width] and their angles [1, tokens, head/2].
 */
export function languageStates(x: Value, w: Weights, { config, rope }: { config: LanguageConfig; rope: Rope }): Value {
  const layers = { from: 0, to: config.layers };
  return finalStates(throughLayers(x, w, { shared: { config, rope }, layers }), w, config);
}

/** Names that the graphs of the text encoder do not read, and why they need not. */
const IDLE: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  { pattern: /^lm_head\./, reason: "the output head: an encoder predicts no token" },
  { pattern: /^model\.embed_tokens\.weight$/, reason: "looked up outside the graphs" },
  { pattern: /^scaled_fp8$/, reason: "a marker, which types and scales repeat" },
  { pattern: /(^|\.)(rotary_emb|rotary_pos_emb)\.inv_freq$/, reason: "computed from the configuration" },
  { pattern: /(^|\.)logit_scale$/, reason: "ComfyUI saves one with every text encoder" },
];

/** Whether the graphs of the text encoder need not read a tensor of this name. */
export function isIdleInTextEncoder(name: string): boolean {
  return IDLE.some(({ pattern }) => pattern.test(name));
}

function throughLayers(
  first: Value,
  w: Weights,
  { shared, layers: { from, to } }: { shared: Shared; layers: { readonly from: number; readonly to: number } },
): Value {
  let x = first;
  for (let index = from; index < to; index += 1) x = decoderLayer(x, w.at("model.layers").at(index), shared);
  return x;
}

function finalStates(x: Value, w: Weights, { epsilon }: LanguageConfig): Value {
  return batched(rmsNormAt(x, w.at("model.norm"), epsilon)).cast("f32");
}

function decoderLayer(x: Value, w: Weights, shared: Shared): Value {
  const { epsilon } = shared.config;
  const attended = attention(rmsNormAt(x, w.at("input_layernorm"), epsilon), w.at("self_attn"), shared);
  const y = w.scoped(() => x.add(attended));
  const fed = feedForward(rmsNormAt(y, w.at("post_attention_layernorm"), epsilon), w.at("mlp"));
  return w.scoped(() => y.add(fed));
}

function attention(x: Value, w: Weights, { config, rope }: Shared): Value {
  const q = batched(linear(x, w.at("q_proj")));
  const k = batched(linear(x, w.at("k_proj")));
  const v = batched(linear(x, w.at("v_proj")));
  const attended = w.scoped(() =>
    causalAttention(
      {
        q: rotary(q, rope, { heads: config.heads, pairs: "halves" }),
        k: rotary(k, rope, { heads: config.keyValueHeads, pairs: "halves" }),
        v,
      },
      { query: config.heads, keyValue: config.keyValueHeads },
    ),
  );
  return linear(unbatched(attended), w.at("o_proj"));
}

/** `down(silu(gate(x)) · up(x))`, the gated feed-forward of both towers. */
export function feedForward(x: Value, w: Weights): Value {
  const gate = linear(x, w.at("gate_proj"));
  const up = linear(x, w.at("up_proj"));
  return linear(
    w.scoped(() => silu(gate).mul(up)),
    w.at("down_proj"),
  );
}

/** Cosines and sines [1, tokens, head/2] of M-RoPE: `positions` holds the time, row and column of every token, three rows. */
export function multimodalRope(
  positions: readonly (readonly number[])[],
  config: LanguageConfig,
): { cos: Tensor<"float32">; sin: Tensor<"float32"> } {
  const half = config.headDim / 2;
  const tokens = positions[0]!.length;
  // Pair k is rotated by the axis whose section it lies in.
  const axes = config.ropeSections.flatMap((section, axis) => Array.from({ length: section }, () => axis));
  const [cos, sin] = [float32([1, tokens, half]), float32([1, tokens, half])];
  for (let token = 0; token < tokens; token += 1) {
    for (let k = 0; k < half; k += 1) {
      const angle = positions[axes[k]!]![token]! * config.ropeTheta ** ((-2 * k) / config.headDim);
      cos.data[token * half + k] = Math.cos(angle);
      sin.data[token * half + k] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
