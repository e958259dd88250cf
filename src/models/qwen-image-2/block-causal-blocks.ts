// The blocks of Qwen-Image-2.1's transformer, over streams of tokens that are modulated alike. Mathematics: diffusers 0.42.1 transformer_qwenimage21.py.
import type { Weights } from "../../checkpoint/weights.js";
import { loop } from "../../graph/control-flow.js";
import { gather, part } from "../../graph/indexing.js";
import { type Attended, gelu, layerNorm, multiHeadAttention, rotary, silu } from "../../graph/operators.js";
import type { DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { batched, centredRmsNormAt, headNorm, linear, linears, unbatched } from "../layers.js";
import type { TransformerConfig } from "./block-causal-config.js";
import type { BlockModulation, ModulationSource } from "./shared-modulation.js";

/** Angles [1, tokens, head/2]. */
export interface Rope {
  readonly cos: Value;
  readonly sin: Value;
}

/** Keys and values [1, tokens, width], after norm and rotation. */
export interface Attendable {
  readonly k: Value;
  readonly v: Value;
}

/** Tokens that are modulated alike, [tokens, width]: "prefix" are the text and then each reference. */
export interface Stream {
  readonly role: "prefix" | "target";
  readonly x: Value;
}

/** Attention among the tokens of a prefix: text by its mask, each reference by what stands before it and itself. */
export type PrefixAttention = (attended: Attended, heads: number) => Value;

/** What all blocks share. */
export interface Shared {
  readonly config: TransformerConfig;
  readonly compute: DType;
  readonly modulation: ModulationSource;
  readonly rope: Readonly<Partial<Record<Stream["role"], Rope>>>;
  /** Left out where there is no prefix among the streams. */
  readonly prefix?: PrefixAttention | undefined;
}

/** Where the text tokens and the references of a prefix are known to stand when a graph is built. */
export interface KnownPrefix {
  /** The prompt and each reference [1, tokens, …], for their lengths. */
  readonly segments: readonly [text: Value, ...references: Value[]];
  /** [1, 1, text, prefix], see textMask. */
  readonly mask: Value;
  /** For each reference the numbers of the text tokens before it, i64. */
  readonly before: readonly Value[];
}

/** Attention of a prefix with a known number of references. Only text needs a mask: it is a few hundred tokens. */
export function knownPrefix({ segments, mask, before }: KnownPrefix): PrefixAttention {
  const cut = (x: Value) => (segments.length === 1 ? [x] : x.splitLike(1, segments, 1)) as [Value, ...Value[]];
  return ({ q, k, v }, heads) => {
    const [[textQ, ...imageQs], [textK, ...imageKs], [textV, ...imageVs]] = [cut(q), cut(k), cut(v)];
    const text = multiHeadAttention({ q: textQ, k, v }, heads, mask);
    const images = imageQs.map((imageQ, index) => {
      const seen = (ofText: Value, ofImages: readonly Value[]) =>
        concat([gather(ofText, before[index]!, 1), ...ofImages.slice(0, index + 1)], 1);
      return multiHeadAttention({ q: imageQ, k: seen(textK, imageKs), v: seen(textV, imageVs) }, heads);
    });
    return images.length === 0 ? text : concat([text, ...images], 1);
  };
}

/** A prefix whose references are packed one after the other, as many as a run has. */
export interface PackedPrefix {
  /** The prompt and all references [1, tokens, …], for their lengths. */
  readonly segments: readonly [text: Value, references: Value];
  readonly mask: Value;
  /** For each reference how many text tokens stand before it, i64 [references]. */
  readonly before: Value;
  /** How many tokens each has, and where it ends among the tokens of all, i64 [references]. */
  readonly counts: Value;
  readonly ends: Value;
}

/** Attention of a prefix with any number of references: what knownPrefix computes, reference by reference. */
export function packedPrefix({ segments, mask, before, counts, ends }: PackedPrefix): PrefixAttention {
  const cut = (x: Value) => x.splitLike(1, segments, 1) as [Value, Value];
  return ({ q, k, v }, heads) => {
    const [[textQ, imageQ], [textK, imageK], [textV, imageV]] = [cut(q), cut(k), cut(v)];
    const { graph } = q;
    const text = multiHeadAttention({ q: textQ, k, v }, heads, mask);
    const width = Number(q.dim(2));
    const none = graph.constant("f32", [1, 0, width], []).cast(q.dtype);
    const start = graph.constant("i64", [1], [0]);
    const carried = [{ initial: none, shape: [1, "attended so far", width], result: imageQ.shape }];
    const [images] = loop(graph, { trips: counts.shapeValue(), carried }, ([attended], index) => {
      const end = gather(ends, index);
      const own = part(imageQ, { axis: 1, start: end.sub(gather(counts, index)), end, length: "own tokens" });
      const seen = (ofText: Value, ofImages: Value) =>
        concat(
          [
            part(ofText, { axis: 1, start, end: gather(before, index), length: "text before" }),
            part(ofImages, { axis: 1, start, end, length: "references so far" }),
          ],
          1,
        );
      const result = multiHeadAttention({ q: own, k: seen(textK, imageK), v: seen(textV, imageV) }, heads);
      return [concat([attended!, result], 1)];
    });
    return concat([text, images!], 1);
  };
}

/** The tokens that a prefix begins with, [tokens, width]: of a prompt [1, text, …], then of each of some references [1, tokens, channels]. */
export function embedPrefix([text, ...images]: readonly Value[], w: Weights, config: TransformerConfig): Value {
  const own = w.at("txt_in");
  const inner = linear(centredRmsNormAt(unbatched(text!), own.at("text_norm"), config.epsilon), own.at("in_layer"));
  const embedded = linear(
    own.scoped(() => gelu(inner, "tanh")),
    own.at("out_layer"),
  );
  return images.length === 0 ? embedded : concat([embedded, embedImages(concat(images, 1), w)], 0);
}

/** The tokens [tokens, width] of pictures [1, tokens, channels]. */
export function embedImages(tokens: Value, w: Weights): Value {
  return linear(unbatched(tokens), w.at("img_in"));
}

/** How a block is built. */
export interface BlockOptions {
  readonly shared: Shared;
  /** Keys and values of a prefix that is not among the streams. */
  readonly kept: Attendable | undefined;
  /** Of the prefix only keys and values are computed then. */
  readonly isLast: boolean;
}

/** Streams behind a block, those that go on, and keys and values of all streams. */
export function transformerBlock(
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
      return prefix!({ q: queriesOf, ...firstOf(own, streams) }, config.heads);
    });
    return unbatched(results.length === 1 ? results[0]! : concat(results, 1));
  });
  return { attended: linear(attended, w.at("to_out.0")), own };
}

// Keys and values of the first stream.
function firstOf({ k, v }: Attendable, streams: readonly Stream[]): Attendable {
  return { k: apart(k, streams, 1)[0]!, v: apart(v, streams, 1)[0]! };
}

function rotated(x: Value, rope: Rope, { heads }: TransformerConfig): Value {
  return rotary(batched(x), rope, { heads, pairs: "interleaved" });
}

function joinedRope(streams: readonly Stream[], rope: Shared["rope"]): Rope {
  const [first, second] = streams.map(({ role }) => rope[role]!) as [Rope, Rope?];
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

/** The velocity f32 [1, target, channels] of what the last block gives. */
export function velocityOfTokens(target: Value, w: Weights, { config, modulation }: Shared): Value {
  const normed = w.at("norm_out").scoped(() => layerNorm(target, modulation.final, undefined, config.epsilon));
  return batched(linear(normed, w.at("proj_out"))).cast("f32");
}
