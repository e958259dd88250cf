// Opens the transformer by its memory plan: whole or in groups of blocks, with the modulation in its graph or fed.

import { storedParts } from "../../checkpoint/lora/module-adapter.js";
import { type Adapter, Weights } from "../../checkpoint/weights.js";
import { runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import { type Model, modelOf, type Optimization } from "../../engine/sessions/engine.js";
import { affordableOptimization } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { BlockRange, TokenCounts } from "../../models/transformer-family.js";
import { float32, type Tensor } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import { groupModels, withChain } from "./block-groups.js";
import { type ActiveLora, strengthsOf } from "./loras.js";
import type { NetworkNeeds } from "./memory-plan.js";
import { networkModel, type SizedFile } from "./model-handle.js";
import { type ModulatedTransformer, openModulation } from "./modulation-table.js";
import type { OpenTransformer } from "./velocity.js";
import { groupPlanning, type MemoryLimit, withinMemory } from "./within-memory.js";

/** A transformer and its run. */
export interface TransformerRun extends ModulatedTransformer {
  /** The noise levels that will be evaluated. */
  readonly sigmas: readonly number[];
  readonly tokens: TokenCounts;
}

/** Opens a transformer, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withTransformer<T>(
  run: TransformerRun,
  context: StageContext,
  use: (transformer: OpenTransformer) => Promise<T>,
): Promise<T> {
  return withinMemory(context, groupPlanning(transformerNeeds(run, context.engine.device)), async (plan) => {
    const { loras, sigmas } = run;
    // Modulation linears that were widened when opened cost next to nothing per step. Stored ones are widened at every step: a tenth of
    // a step on the CPU at 512² (bench/); on a GPU 10 ms, and a third of the memory.
    const isModulationFed = plan.groups.length > 1 || optimizationOf(run, context) === "none";
    // Before the transformer opens, so that both are never in memory together.
    const modulation = isModulationFed ? await openModulation(run, sigmas, context) : undefined;
    const references = run.tokens.references.length;
    const models = await transformerModels(run, { groups: plan.groups, references, isModulationFed, context });
    const strengths = strengthsOf(loras);
    context.emit({ kind: "activity", text: "opening the transformer" });
    return withChain(context, groupModels(plan, models), (chain) =>
      use({
        isStreamed: plan.groups.some(({ isResident }) => !isResident),
        async run(feeds, sigma) {
          const shared = {
            ...strengths,
            timestep: float32([1], Float32Array.of(sigma)),
            ...(await modulation?.feeds(sigma, { ranges: plan.groups, part: "whole" })),
          };
          const outputs = await chain.run(feeds.map((each) => ({ ...each, ...shared })));
          return outputs.map(({ velocity }) => velocity as Tensor<"float32">);
        },
      }),
    );
  });
}

/** The transformer's graph if all of it fits: the one to prefetch. */
export async function wholeTransformer(
  { references, ...transformer }: ModulatedTransformer & { readonly references: number },
  context: StageContext,
): Promise<Model> {
  const groups = [{ from: 0, to: transformer.network.blocks }];
  const [model] = await transformerModels(transformer, {
    groups,
    references,
    isModulationFed: optimizationOf(transformer, context) === "none",
    context,
  });
  return model!;
}

/** What a transformer's memory plan depends on: headers, and the lengths of a run. */
export type SizedTransformer = Pick<TransformerRun, "network" | "compute" | "tokens"> & {
  readonly file: SizedFile;
  readonly loras: readonly Pick<ActiveLora, "adapter">[];
};

/** Sizes of a transformer for its memory plan, without the modulation. */
export function transformerNeeds(
  { file, network, compute, loras, tokens }: SizedTransformer,
  device: Device,
): NetworkNeeds {
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
  const graph = new Graph("sizes");
  const adapters = loras.map(({ adapter }) => onFirstBlocks(adapter));
  network.build(graph, Weights.of(graph, file.checkpoint, adapters), {
    compute,
    part: "whole",
    references: tokens.references.length,
    blocks: { from: 0, to: Math.min(2, network.blocks) },
    isModulationFed: true,
  });
  return {
    network: "transformer",
    layers,
    activations: runBytes({ graph, optimization: "none", compute }, network.lengths(tokens), device),
  };
}

// An adapter with what it does anywhere to a place in a block done to that place of the first two blocks.
function onFirstBlocks({ modules, ...adapter }: Adapter): Adapter {
  const places = [...modules].flatMap(([module, own]) => {
    const place = /^transformer_blocks\.\d+\.(.+)$/.exec(module)?.[1];
    return place === undefined ? [] : [0, 1].map((block) => [`transformer_blocks.${block}.${place}`, own] as const);
  });
  return { ...adapter, modules: new Map([...modules, ...places]) };
}

/** Whether a transformer's weights are widened when it opens: never under a memory limit. */
export function transformerOptimization({ checkpoint }: SizedFile, { device, vram }: MemoryLimit): Optimization {
  return vram === undefined ? affordableOptimization({ externals: checkpoint.tensors }, device) : "none";
}

function optimizationOf({ file }: ModulatedTransformer, { engine, vram }: StageContext): Optimization {
  return transformerOptimization(file, { device: engine.device, vram });
}

interface Opening {
  readonly groups: readonly BlockRange[];
  /** Number of references. */
  readonly references: number;
  readonly isModulationFed: boolean;
  readonly context: StageContext;
}

async function transformerModels(
  run: ModulatedTransformer,
  { groups, references, isModulationFed, context }: Opening,
): Promise<Model[]> {
  const { file, network, compute, loras } = run;
  const models: Model[] = [];
  for (const { from, to } of groups) {
    const blocks: BlockRange = { from, to };
    const others = {
      compute,
      blocks,
      isModulationFed,
      ...{ network: network.key, references },
      loras: loras.map(({ file: path, identity }) => [path, identity]),
    };
    models.push(
      await networkModel(context, { network: "transformer", file, others }, async () => {
        const graph = new Graph(
          groups.length === 1 ? "the transformer" : `the transformer, blocks ${from} to ${to - 1}`,
        );
        const weights = Weights.of(
          graph,
          file.checkpoint,
          loras.map(({ adapter }) => adapter),
        );
        network.build(graph, weights, { compute, part: "whole", references, blocks, isModulationFed });
        return modelOf(graph, optimizationOf(run, context), "transformer");
      }),
    );
  }
  return models;
}
