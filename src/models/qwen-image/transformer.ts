// The Qwen-Image-Edit diffusion transformer: dual-stream blocks with joint attention over text, target and reference tokens.
// Ported from the mathematics of ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers
// transformer_qwenimage.py (58eb52c0). One call of this graph is one evaluation of the velocity.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gelu, layerNorm, multiHeadAttention, rotary, silu } from "../../graph/operators.js";
import { addDims, type DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, headNorm, linear, rmsNormAt, unbatched } from "../layers.js";
import type { TransformerConfig } from "./config.js";

/** The timestep of the model runs 0..1000, sigma 0..1. */
const TIMESTEPS = 1000;
const MAX_PERIOD = 10000;

interface Streams {
  readonly txt: Value;
  readonly img: Value;
}

interface Shared {
  readonly config: TransformerConfig;
  /** silu of the timestep embedding, [1, width] */
  readonly temb: Value;
  /** The same for the image stream: [1, width], or [2, width], of the timestep for target tokens and of 0 for reference tokens. */
  readonly imageTemb: Value;
  /** Target and reference tokens, for their lengths along axis 1. */
  readonly parts: readonly Value[];
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

interface Modulation {
  readonly shift: Value;
  readonly scale: Value;
  readonly gate: Value;
  /** The tokens it is for, [1, tokens, width]. */
  readonly part: Value;
}

/**
 * Adds one evaluation of the velocity (noise minus data). Inputs, all f32: `latent_tokens` [1, target, 64] and
 * `reference_tokens` [1, reference, 64] (2×2 patches, normalised latents), `prompt_embeds` [1, text, 3584], `timestep` [1]
 * (sigma, 0..1), `rope_cos` and `rope_sin` [1, text+target+reference, head/2], text first. Output: `velocity` [1, target, 64].
 * All arithmetic is in `compute`.
 */
export function buildTransformer(graph: Graph, w: Weights, { config, compute }: { config: TransformerConfig; compute: DType }): void {
  const input = (name: string, length: string, width: number) => graph.input(name, "f32", [1, length, width]).cast(compute);
  const target = input("latent_tokens", "target", config.patchWidth);
  const reference = input("reference_tokens", "reference", config.patchWidth);
  const prompt = input("prompt_embeds", "text", config.textWidth);
  // Text first, as in the joint attention.
  const tokens = [prompt, target, reference].map((value) => value.dim(1)).reduce(addDims);
  const angles = (name: string) => graph.input(name, "f32", [1, tokens, config.headDim / 2]).cast(compute);

  const imageTemb = timestepEmbedding(graph, w.at("time_text_embed.timestep_embedder"), { compute, alsoZero: config.referencesAtZero });
  const shared: Shared = {
    config,
    temb: config.referencesAtZero ? imageTemb.slice(0, 0, 1) : imageTemb,
    imageTemb,
    parts: [target, reference],
    rope: { cos: angles("rope_cos"), sin: angles("rope_sin") },
  };
  let streams: Streams = {
    img: linear(unbatched(concat([target, reference], 1)), w.at("img_in")),
    txt: linear(rmsNormAt(unbatched(prompt), w.at("txt_norm"), config.epsilon), w.at("txt_in")),
  };
  for (let block = 0; block < config.blocks; block += 1) {
    streams = transformerBlock(streams, w.at("transformer_blocks").at(block), shared);
  }
  graph.output("velocity", batched(finalLayer(streams.img.firstLike(0, target, 1), w, shared)).cast("f32"));
}

function transformerBlock({ txt, img }: Streams, w: Weights, shared: Shared): Streams {
  const { epsilon } = shared.config;
  const [txtAttn, txtMlp] = modulation(shared.temb, w.at("txt_mod"), [txt]);
  const [imgAttn, imgMlp] = modulation(shared.imageTemb, w.at("img_mod"), shared.parts);

  const attended = jointAttention({ txt: modulate(txt, txtAttn, epsilon), img: modulate(img, imgAttn, epsilon) }, w.at("attn"), shared);
  txt = w.scoped(() => txt.add(gated(attended.txt, txtAttn)));
  img = w.scoped(() => img.add(gated(attended.img, imgAttn)));

  const txtFed = feedForward(modulate(txt, txtMlp, epsilon), w.at("txt_mlp"));
  const imgFed = feedForward(modulate(img, imgMlp, epsilon), w.at("img_mlp"));
  return w.scoped(() => ({ txt: txt.add(gated(txtFed, txtMlp)), img: img.add(gated(imgFed, imgMlp)) }));
}

// Of the attention, then of the feed-forward: shift, scale and gate for all tokens, or for each part of them as temb has rows.
function modulation(temb: Value, w: Weights, parts: readonly Value[]): [Modulation[], Modulation[]] {
  const rows = linear(temb, w.at("1"));
  return w.scoped(() => {
    const each = Array.from({ length: Number(rows.dim(0)) }, (_, row) => {
      const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors(rowOf(rows, row), 6) as [Value, Value, Value, Value, Value, Value];
      const part = parts[row]!;
      return [{ shift: shift1, scale: scale1, gate: gate1, part }, { shift: shift2, scale: scale2, gate: gate2, part }] as const;
    });
    return [each.map(([attention]) => attention), each.map(([, feedForward]) => feedForward)];
  });
}

function rowOf(rows: Value, row: number): Value {
  return rows.dim(0) === 1 ? rows : rows.slice(0, row, row + 1);
}

// [1, count·width] as `count` vectors [width].
function vectors(parts: Value, count: number): Value[] {
  return parts.chunk(count, 1).map((part) => part.reshape([part.dim(1)]));
}

function modulate(x: Value, modulations: readonly Modulation[], epsilon: number): Value {
  return eachPart(x, modulations, (part, { scale, shift }) => layerNorm(part, scale.add(1), shift, epsilon));
}

function gated(x: Value, modulations: readonly Modulation[]): Value {
  return eachPart(x, modulations, (part, { gate }) => part.mul(gate));
}

// Cuts the tokens [tokens, width] into the parts that are modulated differently, and joins what becomes of them.
function eachPart(x: Value, modulations: readonly Modulation[], change: (part: Value, modulation: Modulation) => Value): Value {
  const [only, ...others] = modulations;
  if (only && others.length === 0) return change(x, only);
  const cut = x.splitLike(0, modulations.map(({ part }) => part), 1);
  return concat(cut.map((part, index) => change(part, modulations[index]!)), 0);
}

function jointAttention({ txt, img }: Streams, w: Weights, { config, rope }: Shared): Streams {
  const { heads, epsilon } = config;
  const stream = (x: Value, names: readonly string[]) => {
    const [toQ, toK, toV, normQ, normK] = names as [string, string, string, string, string];
    return {
      q: headNorm(linear(x, w.at(toQ)), w.at(normQ), { heads, epsilon }),
      k: headNorm(linear(x, w.at(toK)), w.at(normK), { heads, epsilon }),
      v: linear(x, w.at(toV)),
    };
  };
  const text = stream(txt, ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"]);
  const image = stream(img, ["to_q", "to_k", "to_v", "norm_q", "norm_k"]);
  const attended = w.scoped(() => {
    // text first
    const joined = (name: "q" | "k" | "v") => batched(concat([text[name], image[name]], 0));
    const turned = (x: Value) => rotary(x, rope, { heads, pairs: "interleaved" });
    const all = multiHeadAttention({ q: turned(joined("q")), k: turned(joined("k")), v: joined("v") }, heads);
    return unbatched(all).splitLike(0, [txt, img], 0);
  });
  return { txt: linear(attended[0]!, w.at("to_add_out")), img: linear(attended[1]!, w.at("to_out.0")) };
}

function feedForward(x: Value, w: Weights): Value {
  const inner = linear(x, w.at("net.0.proj"));
  return linear(w.scoped(() => gelu(inner, "tanh")), w.at("net.2"));
}

// Scale first, then shift: the other way round than in the blocks.
function finalLayer(img: Value, w: Weights, { temb, config }: Shared): Value {
  const [scale, shift] = vectors(linear(temb, w.at("norm_out.linear")), 2) as [Value, Value];
  return linear(w.at("norm_out").scoped(() => layerNorm(img, scale.add(1), shift, config.epsilon)), w.at("proj_out"));
}

// silu(MLP(sinusoids of 1000·sigma)), cosines first; angles in float32 like the reference's. A second row is for sigma 0.
function timestepEmbedding(graph: Graph, w: Weights, { compute, alsoZero }: { compute: DType; alsoZero: boolean }): Value {
  const half = w.shape("linear_1.weight")[1]! / 2;
  const frequencies = Array.from({ length: half }, (_, k) => Math.exp((-Math.log(MAX_PERIOD) * k) / half));
  const timestep = graph.input("timestep", "f32", [1]);
  const angles = w.scoped(() => {
    const times = alsoZero ? concat([timestep, graph.constant("f32", [1], [0])], 0).reshape([2, 1]) : timestep;
    return graph.constant("f32", [1, half], frequencies).mul(times).mul(TIMESTEPS);
  });
  const sinusoids = w.scoped(() => concat([angles.cos(), angles.sin()], 1).cast(compute));
  const hidden = linear(sinusoids, w.at("linear_1"));
  const temb = linear(w.scoped(() => silu(hidden)), w.at("linear_2"));
  return w.scoped(() => silu(temb));
}
