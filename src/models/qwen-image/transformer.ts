// The Qwen-Image-Edit diffusion transformer: dual-stream blocks with joint attention over text, target and reference tokens.
// Ported from the mathematics of ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers
// transformer_qwenimage.py (58eb52c0). One call of this graph, or of its parts in order, is one evaluation of the velocity.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gelu, layerNorm, multiHeadAttention, rotary, skipLayerNorm } from "../../graph/operators.js";
import { addDims, type DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, headNorm, linear, linears, rmsNormAt, unbatched } from "../layers.js";
import {
  type BlockModulation,
  type BlockRange,
  computedModulation,
  fedModulation,
  type Modulation,
  type ModulationSource,
} from "./modulation.js";
import type { TransformerConfig } from "./transformer-config.js";

/** Text and image tokens, each [tokens, width]. */
interface Both<T = Value> {
  readonly txt: T;
  readonly img: T;
}

/** Tokens that are modulated alike, and what is still to be added to them where the next normalisation does it (forms.norms). */
interface Part {
  readonly x: Value;
  readonly added?: Value;
}

/** A residual stream: one part, or of image tokens the target and the references. */
type Stream = readonly Part[];

interface Shared {
  readonly config: TransformerConfig;
  /** Target and reference tokens, for their lengths along axis 1. */
  readonly parts: readonly [target: Value, reference: Value];
  readonly rope: Rope;
}

interface Rope {
  readonly cos: Value;
  readonly sin: Value;
}

/** How a transformer's graph is built. */
export interface TransformerOptions {
  readonly config: TransformerConfig;
  readonly compute: DType;
  /** The blocks of this graph, all unless given. */
  readonly blocks?: BlockRange;
  /** Claims that shifts, scales and gates are fed, and their linears are no part of the graph. */
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
      ? firstTokens([target, reference], input("prompt_embeds", "text", config.textWidth), { w, config })
      : givenTokens(graph, blocks, options);
  // Text first, as in the joint attention.
  const tokens = addDims(first.txt.dim(0), first.img.dim(0));
  const angles = (name: string) => graph.input(name, "f32", [1, tokens, config.headDim / 2]).cast(compute);
  const shared: Shared = {
    config,
    parts: [target, reference],
    rope: { cos: angles("rope_cos"), sin: angles("rope_sin") },
  };
  const modulation = isModulationFed
    ? fedModulation(graph, { config, compute, blocks })
    : computedModulation(graph, w, { config, compute });

  const image = config.referencesAtZero ? first.img.splitLike(0, shared.parts, 1) : [first.img];
  let streams: Both<Stream> = { txt: [{ x: first.txt }], img: image.map((x) => ({ x })) };
  const isLast = (block: number) => block === config.blocks - 1;
  for (let block = blocks.from; block < blocks.to; block += 1) {
    const weights = w.at("transformer_blocks").at(block);
    const modulations = modulation.block(block);
    if (isLast(block))
      graph.output(
        "velocity",
        velocity(lastBlock(streams, weights, { modulations, shared }), w, { modulation, config }),
      );
    else streams = transformerBlock(streams, weights, { modulations, shared });
  }
  if (blocks.to === config.blocks) return;
  for (const name of ["txt", "img"] as const) {
    const tokens = joined(streams[name].map(({ x, added }) => (added ? x.add(added) : x)));
    graph.output(`${name}.${blocks.to}`, tokens.cast("f32"));
  }
}

function firstTokens(
  image: readonly Value[],
  prompt: Value,
  { w, config }: { w: Weights; config: TransformerConfig },
): Both {
  return {
    img: linear(unbatched(concat(image, 1)), w.at("img_in")),
    txt: linear(rmsNormAt(unbatched(prompt), w.at("txt_norm"), config.epsilon), w.at("txt_in")),
  };
}

function givenTokens(graph: Graph, { from }: BlockRange, { config, compute }: TransformerOptions): Both {
  const stream = (name: string, length: string) =>
    graph.input(`${name}.${from}`, "f32", [length, config.heads * config.headDim]).cast(compute);
  return { txt: stream("txt", "text"), img: stream("img", "target+reference") };
}

interface BlockSurroundings {
  readonly modulations: BlockModulation;
  readonly shared: Shared;
}

function transformerBlock(streams: Both<Stream>, w: Weights, { modulations, shared }: BlockSurroundings): Both<Stream> {
  const { txt: txtMod, img: imgMod } = perLayer(modulations);
  const [txt, img] = [
    normalised(streams.txt, txtMod.attention, shared),
    normalised(streams.img, imgMod.attention, shared),
  ];
  const attended = jointAttention({ txt: joined(txt.normed), img: joined(img.normed) }, w.at("attn"), shared);
  const txtNow = w.scoped(() => grown(txt.tokens, attended.txt, { modulations: txtMod.attention, shared }));
  const imgNow = w.scoped(() => grown(img.tokens, attended.img, { modulations: imgMod.attention, shared }));

  const txtNext = normalised(txtNow, txtMod.feedForward, shared);
  const txtFed = feedForward(joined(txtNext.normed), w.at("txt_mlp"));
  const imgNext = normalised(imgNow, imgMod.feedForward, shared);
  const imgFed = feedForward(joined(imgNext.normed), w.at("img_mlp"));
  return w.scoped(() => ({
    txt: grown(txtNext.tokens, txtFed, { modulations: txtMod.feedForward, shared }),
    img: grown(imgNext.tokens, imgFed, { modulations: imgMod.feedForward, shared }),
  }));
}

// Of the last block nobody reads text or reference tokens: they serve as keys and values, and only the target goes on.
function lastBlock(streams: Both<Stream>, w: Weights, { modulations, shared }: BlockSurroundings): Stream {
  const { txt: txtMod, img: imgMod } = perLayer(modulations);
  const [attention, fed] = [imgMod.attention.slice(0, 1), imgMod.feedForward.slice(0, 1)];
  const [txt, img] = [
    normalised(streams.txt, txtMod.attention, shared),
    normalised(streams.img, imgMod.attention, shared),
  ];
  const ofTarget = ([first, ...others]: readonly Value[]) =>
    others.length > 0 ? first! : w.scoped(() => first!.firstLike(0, shared.parts[0], 1));
  const attended = targetAttention(
    { txt: joined(txt.normed), img: joined(img.normed), target: ofTarget(img.normed) },
    w.at("attn"),
    shared,
  );
  const target = ofTarget(img.tokens);
  const next = normalised(
    w.scoped(() => grown([target], attended, { modulations: attention, shared })),
    fed,
    shared,
  );
  const result = feedForward(joined(next.normed), w.at("img_mlp"));
  return w.scoped(() => grown(next.tokens, result, { modulations: fed, shared }));
}

/** Claims that a tensor is rightly unread: in the last block the text is neither asked nor passed on. */
export function isIdleInLastBlock(name: string, { blocks }: TransformerConfig): boolean {
  const prefix = `transformer_blocks.${blocks - 1}.`;
  return (
    name.startsWith(prefix) &&
    /^(?:attn\.(?:add_q_proj|norm_added_q|to_add_out)|txt_mlp)\./.test(name.slice(prefix.length))
  );
}

type PerLayer = Readonly<Record<"attention" | "feedForward", readonly Modulation[]>>;

function perLayer({ txt, img }: BlockModulation): { txt: PerLayer; img: PerLayer } {
  const of = (rows: BlockModulation["img"]) => ({
    attention: rows.map(({ attention }) => attention),
    feedForward: rows.map(({ feedForward }) => feedForward),
  });
  return { txt: of([txt]), img: of(img) };
}

/** A stream's tokens, and what a layer reads of them, part by part. */
interface Normalised {
  readonly tokens: readonly Value[];
  readonly normed: readonly Value[];
}

function normalised(
  stream: Stream,
  modulations: readonly Pick<Modulation, "scale" | "shift">[],
  { config: { epsilon } }: Pick<Shared, "config">,
): Normalised {
  const each = stream.map(({ x, added }, index) => {
    const { scale, shift } = modulations[index]!;
    return added
      ? skipLayerNorm([x, added], { scale, shift }, epsilon)
      : { sum: x, normed: layerNorm(x, scale, shift, epsilon) };
  });
  return { tokens: each.map(({ sum }) => sum), normed: each.map(({ normed }) => normed) };
}

// Residuals: tokens plus the gated result of a layer.
function grown(
  tokens: readonly Value[],
  result: Value,
  { modulations, shared }: { modulations: readonly Modulation[]; shared: Shared },
): Stream {
  const results = tokens.length === 1 ? [result] : result.splitLike(0, shared.parts, 1);
  return tokens.map((x, index) => {
    const added = results[index]!.mul(modulations[index]!.gate);
    return x.graph.forms.norms === "with-residual" ? { x, added } : { x: x.add(added) };
  });
}

function joined(parts: readonly Value[]): Value {
  return parts.length === 1 ? parts[0]! : concat(parts, 0);
}

const TEXT = { q: ["add_q_proj", "norm_added_q"], k: ["add_k_proj", "norm_added_k"], v: "add_v_proj" } as const;
const IMAGE = { q: ["to_q", "norm_q"], k: ["to_k", "norm_k"], v: "to_v" } as const;

function jointAttention({ txt, img }: Both, w: Weights, { config, rope }: Shared): Both {
  const { heads } = config;
  const stream = (x: Value, { q, k, v }: typeof TEXT | typeof IMAGE) => {
    const [queries, keys, values] = linears(x, [w.at(q[0]), w.at(k[0]), w.at(v)]) as [Value, Value, Value];
    return { q: headNorm(queries, w.at(q[1]), config), k: headNorm(keys, w.at(k[1]), config), v: values };
  };
  const [text, image] = [stream(txt, TEXT), stream(img, IMAGE)];
  const attended = w.scoped(() => {
    const both = (name: "q" | "k" | "v") => textFirst(text[name], image[name]);
    const all = multiHeadAttention(
      { q: turned(both("q"), rope, heads), k: turned(both("k"), rope, heads), v: both("v") },
      heads,
    );
    return unbatched(all).splitLike(0, [txt, img], 0);
  });
  return { txt: linear(attended[0]!, w.at("to_add_out")), img: linear(attended[1]!, w.at("to_out.0")) };
}

// What target tokens see of all tokens.
function targetAttention(
  { txt, img, target }: Both & { readonly target: Value },
  w: Weights,
  { config, rope, parts }: Shared,
): Value {
  const { heads } = config;
  const q = headNorm(linear(target, w.at(IMAGE.q[0])), w.at(IMAGE.q[1]), config);
  const seen = (x: Value, { k, v }: typeof TEXT | typeof IMAGE) => {
    const [keys, values] = linears(x, [w.at(k[0]), w.at(v)]) as [Value, Value];
    return { k: headNorm(keys, w.at(k[1]), config), v: values };
  };
  const [text, image] = [seen(txt, TEXT), seen(img, IMAGE)];
  const attended = w.scoped(() => {
    const ofTarget = (angles: Value) => angles.splitLike(1, [batched(txt), ...parts], 1)[1]!;
    const targetRope = { cos: ofTarget(rope.cos), sin: ofTarget(rope.sin) };
    const all = {
      q: turned(batched(q), targetRope, heads),
      k: turned(textFirst(text.k, image.k), rope, heads),
      v: textFirst(text.v, image.v),
    };
    return unbatched(multiHeadAttention(all, heads));
  });
  return linear(attended, w.at("to_out.0"));
}

function textFirst(text: Value, image: Value): Value {
  return batched(concat([text, image], 0));
}

function turned(x: Value, rope: Rope, heads: number): Value {
  return rotary(x, rope, { heads, pairs: "interleaved" });
}

function feedForward(x: Value, w: Weights): Value {
  const inner = linear(x, w.at("net.0.proj"));
  return linear(
    w.scoped(() => gelu(inner, "tanh")),
    w.at("net.2"),
  );
}

function velocity(
  target: Stream,
  w: Weights,
  { modulation, config }: { modulation: ModulationSource; config: TransformerConfig },
): Value {
  const final = modulation.final();
  const { normed } = w.at("norm_out").scoped(() => normalised(target, [final], { config }));
  return batched(linear(joined(normed), w.at("proj_out"))).cast("f32");
}
