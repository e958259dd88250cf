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
  readonly rope: { readonly cos: Value; readonly sin: Value };
}

interface Modulation {
  readonly shift: Value;
  readonly scale: Value;
  readonly gate: Value;
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

  const shared: Shared = {
    config,
    temb: timestepEmbedding(graph, w.at("time_text_embed.timestep_embedder"), compute),
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
  const [txtAttn, txtMlp] = modulation(shared.temb, w.at("txt_mod"));
  const [imgAttn, imgMlp] = modulation(shared.temb, w.at("img_mod"));

  const attended = jointAttention({ txt: modulate(txt, txtAttn, epsilon), img: modulate(img, imgAttn, epsilon) }, w.at("attn"), shared);
  txt = w.scoped(() => txt.add(attended.txt.mul(txtAttn.gate)));
  img = w.scoped(() => img.add(attended.img.mul(imgAttn.gate)));

  const txtFed = feedForward(modulate(txt, txtMlp, epsilon), w.at("txt_mlp"));
  const imgFed = feedForward(modulate(img, imgMlp, epsilon), w.at("img_mlp"));
  return w.scoped(() => ({ txt: txt.add(txtFed.mul(txtMlp.gate)), img: img.add(imgFed.mul(imgMlp.gate)) }));
}

// Shift, scale and gate of the attention, then of the feed-forward.
function modulation(temb: Value, w: Weights): [Modulation, Modulation] {
  const parts = linear(temb, w.at("1"));
  return w.scoped(() => {
    const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors(parts, 6) as [Value, Value, Value, Value, Value, Value];
    return [
      { shift: shift1, scale: scale1, gate: gate1 },
      { shift: shift2, scale: scale2, gate: gate2 },
    ];
  });
}

// [1, count·width] as `count` vectors [width].
function vectors(parts: Value, count: number): Value[] {
  return parts.chunk(count, 1).map((part) => part.reshape([part.dim(1)]));
}

function modulate(x: Value, { scale, shift }: Pick<Modulation, "scale" | "shift">, epsilon: number): Value {
  return layerNorm(x, scale.add(1), shift, epsilon);
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
  return linear(w.at("norm_out").scoped(() => modulate(img, { scale, shift }, config.epsilon)), w.at("proj_out"));
}

// silu(MLP(sinusoids of 1000·sigma)), cosines first; angles in float32 like the reference's.
function timestepEmbedding(graph: Graph, w: Weights, compute: DType): Value {
  const half = w.shape("linear_1.weight")[1]! / 2;
  const frequencies = Array.from({ length: half }, (_, k) => Math.exp((-Math.log(MAX_PERIOD) * k) / half));
  const timestep = graph.input("timestep", "f32", [1]);
  const angles = w.scoped(() => graph.constant("f32", [1, half], frequencies).mul(timestep).mul(TIMESTEPS));
  const sinusoids = w.scoped(() => concat([angles.cos(), angles.sin()], 1).cast(compute));
  const hidden = linear(sinusoids, w.at("linear_1"));
  const temb = linear(w.scoped(() => silu(hidden)), w.at("linear_2"));
  return w.scoped(() => silu(temb));
}
