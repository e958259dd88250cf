// The memory plan of the transformer: whole or in groups of blocks, and whether the keys and values of text and references are computed once for a
// schedule and kept, or at every step.
import { totalmem } from "node:os";
import { storedParts } from "../../checkpoint/lora/module-adapter.js";
import { type Adapter, Weights } from "../../checkpoint/weights.js";
import { runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import type { Optimization } from "../../engine/sessions/engine.js";
import { affordableOptimization, wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import { ELEMENT } from "../../graph/types.js";
import type { FedGraph, TokenCounts, TransformerPart } from "../../models/transformer-family.js";
import { binarySize } from "../../std/byte-sizes.js";
import type { ActiveLora } from "./loras.js";
import { describeNetworkPlan, type NetworkNeeds, type NetworkPlan, planNetwork } from "./memory-plan.js";
import type { SizedFile } from "./model-handle.js";
import type { ModulatedTransformer } from "./modulation-table.js";
import type { MemoryLimit, Planning } from "./within-memory.js";

/** Of the machine's memory, what kept keys and values may take. */
const KEPT_SHARE = 1 / 4;

/** What a transformer's memory plan depends on: headers, and the lengths of a run. */
export type SizedTransformer = Pick<ModulatedTransformer, "network" | "compute"> & {
  readonly file: SizedFile;
  readonly loras: readonly Pick<ActiveLora, "adapter">[];
  readonly tokens: TokenCounts;
  /** Whether guidance uses a negative prompt. */
  readonly hasNegative?: boolean;
  /** The threshold of a step cache; undefined: there is none. */
  readonly stepCache?: number | undefined;
};

/** Lengths of an edit's sequences, as its plan has them. */
interface EditTokens {
  readonly prompt: { readonly seen: number };
  readonly negativePrompt: { readonly seen: number } | undefined;
  readonly target: number;
  readonly references: readonly number[];
}

/** What of an edit's lengths a transformer's plan depends on. */
export function sampledTokens({
  prompt,
  negativePrompt,
  target,
  references,
}: EditTokens): Required<Pick<SizedTransformer, "tokens" | "hasNegative">> {
  const text = Math.max(prompt.seen, negativePrompt?.seen ?? 0);
  return { tokens: { text, target, references }, hasNegative: negativePrompt !== undefined };
}

/** A plan of the transformer. */
export interface TransformerPlan extends NetworkPlan {
  /** Bytes of keys and values that are computed once for the schedule, in the machine's memory; undefined: they are computed at every step. */
  readonly keptBytes: number | undefined;
  /** Bytes that a step cache keeps, in the machine's memory; undefined: there is none, else the first group is the first block. */
  readonly stepCacheBytes: number | undefined;
}

/** Planning of the transformer. What is kept is preferred where that lets weights stay open that would stay open without it. */
export function transformerPlanning(transformer: SizedTransformer, device: Device): Planning<TransformerPlan> {
  const whole = transformerNeeds(transformer, device);
  const planned = planOf(transformer, device);
  const wholePlan = (budget: number | undefined) => ({ ...planned(whole, "whole", budget), keptBytes: undefined });
  const keptBytes = keptBytesOf(transformer);
  if (keptBytes === undefined || keptBytes > totalmem() * KEPT_SHARE) return { planFor: wholePlan, describe };
  const kept = keptNeeds(transformer, { keptBytes, device });
  const weights = whole.layers.reduce((sum, bytes) => sum + bytes, 0);
  return {
    planFor(budget) {
      const without = wholePlan(budget);
      const plan = { ...planned(kept, "step", budget), weights, keptBytes };
      return plan.isOverBudget || (streams(plan) && !streams(without)) ? without : plan;
    },
    describe,
  };
}

/** Whether some of a network's weights are read again at every pass. */
export function streams({ groups }: Pick<NetworkPlan, "groups">): boolean {
  return groups.some(({ isResident }) => !isResident);
}

function describe({ keptBytes, stepCacheBytes, ...plan }: TransformerPlan): string {
  const kept = keptBytes === undefined ? "" : `; ${binarySize(keptBytes)} of keys and values are computed once`;
  const cached = stepCacheBytes === undefined ? "" : `; the step cache keeps ${binarySize(stepCacheBytes)}`;
  return `${describeNetworkPlan(plan)}${kept}${cached}`;
}

// With a step cache the session of the first block stays open beside those of the others.
function planOf(transformer: SizedTransformer, device: Device) {
  const isCached = transformer.stepCache !== undefined;
  return (needs: NetworkNeeds, part: TransformerPart, budget: number | undefined) => {
    if (!isCached) return { ...planNetwork(needs, budget), stepCacheBytes: undefined };
    const [first, ...layers] = needs.layers as [number, ...number[]];
    if (layers.length === 0) throw new Error("internal: a step cache of one block");
    const { activations, stepCacheBytes } = stepCacheNeeds(transformer, { device, part });
    const beside = activations + (device.provider === "cpu" ? stepCacheBytes : 0);
    const budgetOfOthers = budget === undefined ? undefined : Math.max(0, budget - first - beside);
    const others = planNetwork({ ...needs, layers }, budgetOfOthers);
    const peak = others.peak + first + beside;
    return {
      ...others,
      ...{ weights: others.weights + first, activations: others.activations + beside, peak, stepCacheBytes },
      groups: [
        { from: 0, to: 1, bytes: first, isResident: true },
        ...others.groups.map((group) => ({ ...group, from: group.from + 1, to: group.to + 1 })),
      ],
      isOverBudget: budget !== undefined && peak > budget,
    };
  };
}

/** Buffers of the size of the compared tokens, in float32, that comparing them takes at a time (models/step-cache.ts), and one in which they go on. */
const COMPARING = 5 + 1;

/** What a step cache takes beside the transformer that it is of, in bytes. */
export interface StepCacheNeeds {
  /** Of the session of the first block, its weights left out, on the device. */
  readonly activations: number;
  /** Of what is kept of every prompt in the machine's memory: the tokens behind the first block, and what the others added to the target, in float32. */
  readonly stepCacheBytes: number;
}

/** The needs of a step cache, where an evaluation is computed whole or as steps. On a GPU a run is fed what is kept. */
export function stepCacheNeeds(
  transformer: SizedTransformer,
  { device, part }: { readonly device: Device; readonly part: TransformerPart },
): StepCacheNeeds {
  const { network, tokens, hasNegative = false } = transformer;
  const row = network.width * ELEMENT.f32.bytes;
  const compared = network.compared.tokens(tokens) * row;
  const ofPrompt = compared + tokens.target * row;
  const block = activationsOf(transformer, { device, part, blocks: { from: 0, to: 1 } });
  const fed = device.provider === "cpu" ? 0 : ofPrompt;
  return { activations: block + COMPARING * compared + fed, stepCacheBytes: (hasNegative ? 2 : 1) * ofPrompt };
}

// Of all prompts, in float32 as they cross the engine's border.
function keptBytesOf({
  network: { keptWidth, blocks },
  tokens,
  hasNegative = false,
}: SizedTransformer): number | undefined {
  if (keptWidth === undefined) return undefined;
  const prefix = tokens.references.reduce((sum, count) => sum + count, tokens.text);
  return (hasNegative ? 2 : 1) * prefix * keptWidth * blocks * ELEMENT.f32.bytes;
}

// On a GPU a run is fed the keys and values of its blocks, of one prompt; on the CPU all of them are in memory all the time.
function keptNeeds(
  transformer: SizedTransformer,
  { keptBytes, device }: { keptBytes: number; device: Device },
): NetworkNeeds {
  const { network, hasNegative = false } = transformer;
  const [prefix, step] = (["prefix", "step"] as const).map((part) => transformerNeeds(transformer, device, part));
  const activations = Math.max(prefix!.activations, step!.activations);
  if (device.provider === "cpu") return { ...step!, activations: activations + keptBytes };
  const fed = Math.ceil(keptBytes / network.blocks / (hasNegative ? 2 : 1));
  return { ...step!, layers: step!.layers.map((bytes) => bytes + fed), activations };
}

/** Sizes of a transformer for its memory plan, without the modulation, where it computes a part of an evaluation at a time. */
export function transformerNeeds(
  transformer: SizedTransformer,
  device: Device,
  part: TransformerPart = "whole",
): NetworkNeeds {
  const { file, network, loras } = transformer;
  const layers = new Array<number>(network.blocks).fill(0);
  const count = (name: string, bytes: number) => {
    if (network.modulation.isModule(name.replace(/\.[^.]+$/, "")) || network.isIdle(name)) return;
    // Weights before the blocks count with the first block, weights after them with the last.
    const end = name.startsWith("proj_out.") ? network.blocks - 1 : 0;
    layers[Number(/^transformer_blocks\.(\d+)\./.exec(name)?.[1] ?? end)]! += bytes;
  };
  for (const [name, { length }] of file.checkpoint.tensors) count(name, length);
  for (const { adapter } of loras)
    for (const [module, own] of adapter.modules)
      for (const { length } of storedParts(own)) count(`${module}.weight`, length);
  // Blocks have equal activations: two are enough.
  const blocks = { from: 0, to: Math.min(2, network.blocks) };
  return { network: "transformer", layers, activations: activationsOf(transformer, { device, part, blocks }) };
}

// Peak bytes of a run of some graph of it, without weights.
function activationsOf(
  { file, network, compute, loras, tokens }: SizedTransformer,
  { device, ...graphOf }: FedGraph & { readonly device: Device },
): number {
  const graph = new Graph("sizes", { widening: wideningOf("none", device) });
  const adapters = loras.map(({ adapter }) => onFirstBlocks(adapter));
  network.build(graph, Weights.of(graph, file.checkpoint, adapters), {
    ...{ compute, references: tokens.references.length, isModulationFed: true },
    ...graphOf,
  });
  return runBytes({ graph, optimization: "none", compute }, network.lengths(tokens), device);
}

// An adapter with what it does anywhere to a place in a block done to that place of the first two blocks.
function onFirstBlocks({ modules, ...adapter }: Adapter): Adapter {
  const places = [...modules].flatMap(([module, own]) => {
    const place = /^transformer_blocks\.\d+\.(.+)$/.exec(module)?.[1];
    return place === undefined ? [] : [0, 1].map((block) => [`transformer_blocks.${block}.${place}`, own] as const);
  });
  return { ...adapter, modules: new Map([...modules, ...places]) };
}

/** Evaluations from which on widening weights once, when they open, takes no longer than doing it at each of them (bench/README.md). */
const LEAST_EVALUATIONS = 8;

/** How a transformer opens. */
export interface TransformerOpening {
  readonly optimization: Optimization;
  /** Whether its modulation is computed before, by a session of its own: for weights that are too many to be widened at once. */
  readonly isModulationFed: boolean;
}

/** How a transformer opens for so many evaluations, any number unless given: its weights are never widened under a memory limit, nor for few. */
export function transformerOpening(
  { checkpoint }: SizedFile,
  { device, vram, evaluations = Number.POSITIVE_INFINITY }: MemoryLimit & { readonly evaluations?: number | undefined },
): TransformerOpening {
  const lasting = vram === undefined ? affordableOptimization({ externals: checkpoint.tensors }, device) : "none";
  return {
    optimization: lasting === "widened" && evaluations < LEAST_EVALUATIONS ? "none" : lasting,
    isModulationFed: lasting === "none",
  };
}

/** How often a schedule evaluates its transformer, by its steps: with guidance twice in each. Samplers of a higher order do so more often. */
export function scheduledEvaluations({ steps, cfg }: { readonly steps: number; readonly cfg: number }): number {
  return cfg === 1 ? steps : 2 * steps;
}
