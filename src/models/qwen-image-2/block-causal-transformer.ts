// The diffusion transformer of Qwen-Image-2.1: single-stream blocks over text, references and target, in which text sees what stands before it, a
// reference what stands before it and itself, and the target everything. Mathematics: diffusers 0.42.1 transformer_qwenimage21.py.
// Text and references do not see the target and are modulated as at noise level 0: their keys and values are the same at every step.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import type { Dim, DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { addReuse, before, type FirstBlock, TAIL_RESIDUAL } from "../step-cache.js";
import type { BlockRange, StepCachePart, TransformerPart } from "../transformer-family.js";
import {
  type Attendable,
  embedImages,
  embedPrefix,
  type KnownPrefix,
  knownPrefix,
  type PrefixAttention,
  type Rope,
  type Shared,
  type Stream,
  transformerBlock,
  velocityOfTokens,
} from "./block-causal-blocks.js";
import type { TransformerConfig } from "./block-causal-config.js";
import { computedModulation, fedModulation, type ModulationSource } from "./shared-modulation.js";

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
  /** Which graph of a step cache it is; none unless given. */
  readonly stepCache?: StepCachePart;
}

/**
 * Adds a part of one evaluation of the velocity (noise minus data). Inputs are f32 unless said.
 * - "whole" and "prefix": `prompt_embeds` [1, text, 4096], `reference_tokens.K` [1, referenceK, 64], `text_mask` (see textMask), `text_before.K` i64
 *   (see textBefore), `prefix_cos` and `prefix_sin` [1, prefix, head/2], text first.
 * - "whole" and "step": `latent_tokens` [1, target, 64], `target_cos`, `target_sin`, and `timestep` [1] (sigma, 0..1).
 * - All: `modulation.0` where it is fed. "prefix" gives `key.N` and `value.N` [1, prefix, width] of every block N, "step" takes them.
 *
 * The others give `velocity` [1, target, 64]. A graph that begins with a later block N takes `prefix.N` and `target.N` [tokens, width] instead of what they
 * are made of; one that ends before block N gives them. All arithmetic is in `compute`. A graph "head" of a step cache takes `target.1` and
 * `latent_tokens` as they were before too, and what addReuse adds; the last graph "tail" takes `target.1`.
 */
export function buildTransformer(graph: Graph, w: Weights, options: TransformerOptions): void {
  const { config, compute, part, references, isModulationFed = false, stepCache } = options;
  const blocks = options.blocks ?? { from: 0, to: config.blocks };
  const input = (name: string, shape: readonly Dim[]) => graph.input(name, "f32", shape).cast(compute);
  const roles = ({ whole: ["prefix", "target"], prefix: ["prefix"], step: ["target"] } as const)[part];
  const hasPrefix = part !== "step";
  const inputs = hasPrefix ? prefixInputs(graph, { config, compute, references }) : undefined;
  const target = part === "prefix" ? undefined : input("latent_tokens", [1, "target", config.channels]);
  const lengths = { prefix: inputs?.mask.dim(3) ?? "prefix", target: "target" };
  const tokensBefore = (role: Stream["role"], block: number) =>
    input(`${role}.${block}`, [lengths[role], config.heads * config.headDim]);
  const first: readonly Stream[] = roles.map((role) => {
    if (blocks.from > 0) return { role, x: tokensBefore(role, blocks.from) };
    return { role, x: role === "prefix" ? embedPrefix(inputs!.segments, w, config) : embedImages(target!, w) };
  });
  let streams = first;
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
    ...{ config, compute, modulation, prefix: inputs && knownPrefix(inputs) },
    rope: Object.fromEntries(ropes),
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
  if (stepCache === "head") {
    addReuse(graph, firstBlock(streams, { graph, w, shared, embedded: first.at(-1)!.x, latents: target! }));
    return;
  }
  for (const { role, x } of streams)
    if (blocks.to < config.blocks) graph.output(`${role}.${blocks.to}`, x.cast("f32"));
    else graph.output("velocity", velocityOfTokens(x, w, shared));
  if (stepCache === undefined || blocks.to < config.blocks) return;
  const begun = blocks.from === 1 ? first.at(-1)!.x : tokensBefore("target", 1);
  graph.output(TAIL_RESIDUAL, streams[0]!.x.sub(begun).cast("f32"));
}

interface EmbeddedTarget {
  readonly graph: Graph;
  readonly w: Weights;
  readonly shared: Shared;
  /** The tokens of the target before the first block, and what they were made of. */
  readonly embedded: Value;
  readonly latents: Value;
}

// The target comes last. What the body of a choice reads is made before: the strengths of adapters are inputs.
function firstBlock(streams: readonly Stream[], { graph, w, shared, embedded, latents }: EmbeddedTarget): FirstBlock {
  const { config, compute } = shared;
  const target = streams.at(-1)!.x;
  const targetBefore = graph.input(before("target.1"), "f32", target.shape);
  const latentsBefore = graph.input(before("latent_tokens"), "f32", latents.shape);
  const tail = graph.input(TAIL_RESIDUAL, "f32", target.shape);
  w.at("proj_out").adapters();
  const residual = (behind: Value, of: Value) => behind.cast("f32").sub(of.cast("f32"));
  return {
    streams: Object.fromEntries(streams.map(({ role, x }) => [`${role}.1`, x])),
    residuals: () => ({
      now: residual(target, embedded),
      before: residual(targetBefore, embedImages(latentsBefore.cast(compute), w)),
    }),
    velocity: () => velocityOfTokens(target.add(tail.cast(compute)), w, shared),
    channels: config.channels,
  };
}

/** A prefix in a graph that has it already, in the type of the arithmetic. */
export interface GivenPrefix {
  /** The prompt [1, text, …], and references [1, tokens, channels]. */
  readonly segments: readonly [text: Value, ...references: Value[]];
  readonly rope: Rope;
  readonly attention: PrefixAttention;
}

/** What a network is given beside its tokens. */
export interface GivenNetwork extends Pick<Shared, "config" | "compute"> {
  readonly modulation: ModulationSource;
}

/** Keys and values of every block, [1, prefix, width]: what a graph "prefix" gives, from values that a graph has already. */
export function prefixStates(prefix: GivenPrefix, w: Weights, network: GivenNetwork): Attendable[] {
  const { config } = network;
  const shared: Shared = { ...network, rope: { prefix: prefix.rope }, prefix: prefix.attention };
  let streams: readonly Stream[] = [{ role: "prefix", x: embedPrefix(prefix.segments, w, config) }];
  return Array.from({ length: config.blocks }, (_, index) => {
    const isLast = index === config.blocks - 1;
    const block = transformerBlock(streams, w.at("transformer_blocks").at(index), { shared, kept: undefined, isLast });
    streams = block.streams;
    return block.own;
  });
}

/** A target in a graph that has it already, in the type of the arithmetic. */
export interface GivenTarget {
  /** [1, target, channels] */
  readonly tokens: Value;
  readonly rope: Rope;
  /** What prefixStates gave. */
  readonly kept: readonly Attendable[];
}

/** The velocity f32 [1, target, channels]: what a graph "step" gives, from values that a graph has already. */
export function targetVelocity({ tokens, rope, kept }: GivenTarget, w: Weights, network: GivenNetwork): Value {
  const { config } = network;
  const shared: Shared = { ...network, rope: { target: rope } };
  let streams: readonly Stream[] = [{ role: "target", x: embedImages(tokens, w) }];
  for (let index = 0; index < config.blocks; index += 1) {
    const isLast = index === config.blocks - 1;
    const own = w.at("transformer_blocks").at(index);
    streams = transformerBlock(streams, own, { shared, kept: kept[index], isLast }).streams;
  }
  return velocityOfTokens(streams[0]!.x, w, shared);
}

function prefixInputs(
  graph: Graph,
  { config, compute, references }: { config: TransformerConfig; compute: DType; references: number },
): KnownPrefix {
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
