// The diffusion transformer of Qwen-Image-2.1: single-stream blocks over text, references and target, in which text sees what stands before it, a
// reference what stands before it and itself, and the target everything. Mathematics: diffusers 0.42.1 transformer_qwenimage21.py.
// Text and references do not see the target and are modulated as at noise level 0: their keys and values are the same at every step.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gather } from "../../graph/indexing.js";
import { gelu, layerNorm, multiHeadAttention, rotary, silu } from "../../graph/operators.js";
import type { Dim, DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, centredRmsNormAt, headNorm, linear, linears, unbatched } from "../layers.js";
import type { BlockRange, TransformerPart } from "../transformer-family.js";
import type { TransformerConfig } from "./block-causal-config.js";
import { type BlockModulation, computedModulation, fedModulation, type ModulationSource } from "./shared-modulation.js";

/** How a transformer's graph is built. */
export interface TransformerOptions {
  readonly config: TransformerConfig;
  readonly compute: DType;
  readonly part: TransformerPart;
  /** Number of references. */
  readonly references: number;
  /** The blocks of this graph, all unless given. */
  readonly blocks?: BlockRange;
  /** Whether scales and gates are inputs, and their linears no part of the graph. */
  readonly isModulationFed?: boolean;
}

/** Angles [1, tokens, head/2]. */
interface Rope {
  readonly cos: Value;
  readonly sin: Value;
}

/** Keys and values [1, tokens, width], after norm and rotation. */
interface Attendable {
  readonly k: Value;
  readonly v: Value;
}

/** Tokens that are modulated alike, [tokens, width]: "prefix" are the text and then each reference. */
interface Stream {
  readonly role: "prefix" | "target";
  readonly x: Value;
}

/** The inputs of attention among the tokens of a prefix. */
interface PrefixInputs {
  /** The prompt and each reference [1, tokens, …], for their lengths. */
  readonly segments: readonly [text: Value, ...references: Value[]];
  /** f32 [1, 1, text, prefix], see textMask. */
  readonly mask: Value;
  /** For each reference the numbers of the text tokens before it, i64. */
  readonly before: readonly Value[];
}

/** What all blocks share. */
interface Shared {
  readonly config: TransformerConfig;
  readonly compute: DType;
  readonly modulation: ModulationSource;
  readonly rope: Readonly<Record<Stream["role"], Rope>>;
  readonly prefix: PrefixInputs | undefined;
}

/**
 * Adds a part of one evaluation of the velocity (noise minus data). Inputs are f32 unless said.
 * - "whole" and "prefix": `prompt_embeds` [1, text, 4096], `reference_tokens.K` [1, referenceK, 64], `text_mask` (see textMask), `text_before.K` i64
 *   (see textBefore), `prefix_cos` and `prefix_sin` [1, prefix, head/2], text first.
 * - "whole" and "step": `latent_tokens` [1, target, 64], `target_cos`, `target_sin`, and `timestep` [1] (sigma, 0..1).
 * - All: `modulation.0` where it is fed. "prefix" gives `key.N` and `value.N` [1, prefix, width] of every block N, "step" takes them.
 *
 * The others give `velocity` [1, target, 64]. A graph that begins with a later block N takes `prefix.N` and `target.N` [tokens, width] instead of what they
 * are made of; one that ends before block N gives them. All arithmetic is in `compute`.
 */
export function buildTransformer(graph: Graph, w: Weights, options: TransformerOptions): void {
  const { config, compute, part, references, isModulationFed = false } = options;
  const blocks = options.blocks ?? { from: 0, to: config.blocks };
  const input = (name: string, shape: readonly Dim[]) => graph.input(name, "f32", shape).cast(compute);
  const roles = ({ whole: ["prefix", "target"], prefix: ["prefix"], step: ["target"] } as const)[part];
  const hasPrefix = part !== "step";
  const inputs = hasPrefix ? prefixInputs(graph, { config, compute, references }) : undefined;
  const target = part === "prefix" ? undefined : input("latent_tokens", [1, "target", config.channels]);
  const lengths = { prefix: inputs?.mask.dim(3) ?? "prefix", target: "target" };
  let streams: readonly Stream[] = roles.map((role) => {
    if (blocks.from > 0)
      return { role, x: input(`${role}.${blocks.from}`, [lengths[role], config.heads * config.headDim]) };
    return { role, x: role === "prefix" ? embedPrefix(inputs!.segments, w, config) : embedImages(target!, w) };
  });
  const ropeOf = (role: Stream["role"]) => {
    const table = (name: string) => input(`${role}_${name}`, [1, lengths[role], config.headDim / 2]);
    return { cos: table("cos"), sin: table("sin") };
  };
  const ropes = roles.map((role) => [role, ropeOf(role)] as const);
  const timestep = part === "prefix" || isModulationFed ? undefined : graph.input("timestep", "f32", [1]);
  const modulation = isModulationFed
    ? fedModulation(graph, { config, compute, blocks, part })
    : computedModulation(graph, w, { timestep, compute });
  const shared: Shared = {
    ...{ config, compute, modulation, prefix: inputs },
    rope: Object.fromEntries(ropes) as unknown as Shared["rope"],
  };
  for (let index = blocks.from; index < blocks.to; index += 1) {
    const kept = part === "step" ? keptOf(graph, index, shared) : undefined;
    const block = transformerBlock(streams, w.at("transformer_blocks").at(index), {
      ...{ shared, kept },
      isLast: index === config.blocks - 1,
    });
    streams = block.streams;
    if (part !== "prefix") continue;
    graph.output(`key.${index}`, block.own.k.cast("f32"));
    graph.output(`value.${index}`, block.own.v.cast("f32"));
  }
  for (const { role, x } of streams)
    if (blocks.to < config.blocks) graph.output(`${role}.${blocks.to}`, x.cast("f32"));
    else graph.output("velocity", velocity(x, w, shared));
}

function prefixInputs(
  graph: Graph,
  { config, compute, references }: { config: TransformerConfig; compute: DType; references: number },
): PrefixInputs {
  const input = (name: string, shape: readonly Dim[]) => graph.input(name, "f32", shape).cast(compute);
  const numbers = Array.from({ length: references }, (_, index) => index);
  const images = numbers.map((index) =>
    input(`reference_tokens.${index}`, [1, lengthName("reference", index), config.channels]),
  );
  const lengths = images.map((image) => image.dim(1));
  return {
    segments: [input("prompt_embeds", [1, "text", config.textWidth]), ...images],
    mask: input("text_mask", [1, 1, "text", ["text", ...lengths].join("+")]),
    before: numbers.map((index) => graph.input(`text_before.${index}`, "i64", [lengthName("before", index)])),
  };
}

/** The name of a length of one of several references: `referenceA`, `referenceB`, …. */
export function lengthName(what: "reference" | "before", index: number): string {
  return `${what}${String.fromCharCode("A".charCodeAt(0) + index)}`;
}

// Keys and values of the prefix, as a graph "prefix" gave them.
function keptOf(graph: Graph, block: number, { config, compute }: Shared): Attendable {
  const input = (name: string) =>
    graph.input(`${name}.${block}`, "f32", [1, "prefix", config.heads * config.headDim]).cast(compute);
  return { k: input("key"), v: input("value") };
}

function embedPrefix([text, ...images]: readonly Value[], w: Weights, config: TransformerConfig): Value {
  const own = w.at("txt_in");
  const inner = linear(centredRmsNormAt(unbatched(text!), own.at("text_norm"), config.epsilon), own.at("in_layer"));
  const embedded = linear(
    own.scoped(() => gelu(inner, "tanh")),
    own.at("out_layer"),
  );
  return images.length === 0 ? embedded : concat([embedded, embedImages(concat(images, 1), w)], 0);
}

function embedImages(tokens: Value, w: Weights): Value {
  return linear(unbatched(tokens), w.at("img_in"));
}

interface BlockOptions {
  readonly shared: Shared;
  /** Keys and values of a prefix that is not among the streams. */
  readonly kept: Attendable | undefined;
  /** Of the prefix only keys and values are computed then. */
  readonly isLast: boolean;
}

function transformerBlock(
  streams: readonly Stream[],
  w: Weights,
  options: BlockOptions,
): { streams: readonly Stream[]; own: Attendable } {
  const { shared, isLast } = options;
  const normed = modulated(streams, "attention", shared);
  const { attended, own } = attention(normed, w.at("attn"), options);
  let next = isLast ? streams.filter(({ role }) => role === "target") : streams;
  if (next.length === 0) return { streams: [], own };
  next = w.scoped(() => addGated(next, attended!, { kind: "attention", shared }));
  const mlp = feedForward(joined(modulated(next, "feedForward", shared)), w.at("img_mlp"));
  next = w.scoped(() => addGated(next, mlp, { kind: "feedForward", shared }));
  return { streams: next, own };
}

// LayerNorm without weights of its own, then `· (1 + scale)`.
function modulated(streams: readonly Stream[], kind: keyof BlockModulation, { config, modulation }: Shared): Stream[] {
  return streams.map(({ role, x }) => ({
    role,
    x: layerNorm(x, modulation[role][kind].scale, undefined, config.epsilon),
  }));
}

// The residual connection, `x + result · tanh(gate)`. Half floats are clipped to their range, as the reference does.
function addGated(
  streams: readonly Stream[],
  result: Value,
  { kind, shared: { modulation, compute } }: { kind: keyof BlockModulation; shared: Shared },
): Stream[] {
  const results = apart(result, streams);
  return streams.map(({ role, x }, index) => {
    const sum = x.add(results[index]!.mul(modulation[role][kind].gate));
    return { role, x: compute === "f16" && kind === "feedForward" ? sum.clip(-LARGEST_HALF, LARGEST_HALF) : sum };
  });
}

/** The largest float16. */
const LARGEST_HALF = 65504;

function feedForward(x: Value, w: Weights): Value {
  const [gate, proj] = gateAndProjection(x, w);
  return linear(
    w.scoped(() => silu(gate).mul(proj)),
    w.at("out"),
  );
}

// As one matrix, the gate's rows first, or as two.
function gateAndProjection(x: Value, w: Weights): [gate: Value, proj: Value] {
  if (w.has("gate_up")) {
    const both = linear(x, w.at("gate_up"));
    return w.scoped(() => both.chunk(2, 1)) as [Value, Value];
  }
  return linears(x, [w.at("gate_layer"), w.at("proj")]) as [Value, Value];
}

// The results for the streams that go on, joined, and keys and values of all streams.
function attention(
  streams: readonly Stream[],
  w: Weights,
  { shared, kept, isLast }: BlockOptions,
): { attended: Value | undefined; own: Attendable } {
  const { config, rope, prefix } = shared;
  const x = joined(streams);
  const asking = isLast ? streams.filter(({ role }) => role === "target") : streams;
  const isAsked = asking.length === streams.length;
  const [k, v, ...queries] = linears(x, [w.at("to_k"), w.at("to_v"), ...(isAsked ? [w.at("to_q")] : [])]);
  const all = joinedRope(streams, rope);
  const own = w.scoped(() => ({
    k: rotated(headNorm(k!, w.at("norm_k"), config), all, config),
    v: batched(v!),
  }));
  if (asking.length === 0) return { attended: undefined, own };
  const q = headNorm(isAsked ? queries[0]! : linear(joined(asking), w.at("to_q")), w.at("norm_q"), config);
  const attended = w.scoped(() => {
    const asked = apart(rotated(q, joinedRope(asking, rope), config), asking, 1);
    const keys = kept ? { k: concat([kept.k, own.k], 1), v: concat([kept.v, own.v], 1) } : own;
    const results = asking.map(({ role }, index) => {
      const queriesOf = asked[index]!;
      if (role === "target") return multiHeadAttention({ q: queriesOf, ...keys }, config.heads);
      return prefixAttention(queriesOf, firstOf(own, streams), { inputs: prefix!, heads: config.heads });
    });
    return unbatched(results.length === 1 ? results[0]! : concat(results, 1));
  });
  return { attended: linear(attended, w.at("to_out.0")), own };
}

// Keys and values of the first stream.
function firstOf({ k, v }: Attendable, streams: readonly Stream[]): Attendable {
  return { k: apart(k, streams, 1)[0]!, v: apart(v, streams, 1)[0]! };
}

// Text by its mask, each reference by what stands before it and itself. Only text needs a mask: it is a few hundred tokens.
function prefixAttention(
  q: Value,
  { k, v }: Attendable,
  { inputs: { segments, mask, before }, heads }: { inputs: PrefixInputs; heads: number },
): Value {
  const cut = (x: Value) => (segments.length === 1 ? [x] : x.splitLike(1, segments, 1)) as [Value, ...Value[]];
  const [[textQ, ...imageQs], [textK, ...imageKs], [textV, ...imageVs]] = [cut(q), cut(k), cut(v)];
  const text = multiHeadAttention({ q: textQ, k, v }, heads, mask);
  const images = imageQs.map((imageQ, index) => {
    const seen = (ofText: Value, ofImages: readonly Value[]) =>
      concat([gather(ofText, before[index]!, 1), ...ofImages.slice(0, index + 1)], 1);
    return multiHeadAttention({ q: imageQ, k: seen(textK, imageKs), v: seen(textV, imageVs) }, heads);
  });
  return images.length === 0 ? text : concat([text, ...images], 1);
}

function rotated(x: Value, rope: Rope, { heads }: TransformerConfig): Value {
  return rotary(batched(x), rope, { heads, pairs: "interleaved" });
}

function joinedRope(streams: readonly Stream[], rope: Shared["rope"]): Rope {
  const [first, second] = streams.map(({ role }) => rope[role]) as [Rope, Rope?];
  if (second === undefined) return first;
  const { graph } = first.cos;
  const join = (table: "cos" | "sin") => graph.once(`${table} of all`, () => concat([first[table], second[table]], 1));
  return { cos: join("cos"), sin: join("sin") };
}

function joined(streams: readonly Stream[]): Value {
  return streams.length === 1
    ? streams[0]!.x
    : concat(
        streams.map(({ x }) => x),
        0,
      );
}

function apart(x: Value, streams: readonly Stream[], axis = 0): Value[] {
  return streams.length === 1
    ? [x]
    : x.splitLike(
        axis,
        streams.map((each) => each.x),
        0,
      );
}

function velocity(target: Value, w: Weights, { config, modulation }: Shared): Value {
  const normed = w.at("norm_out").scoped(() => layerNorm(target, modulation.final, undefined, config.epsilon));
  return batched(linear(normed, w.at("proj_out"))).cast("f32");
}
