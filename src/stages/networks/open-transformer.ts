// Opens the transformer by its memory plan: whole or in groups of blocks, with the modulation in its graph or fed, with keys and values of text and
// references computed once for the schedule or at every step.
import { Weights } from "../../checkpoint/weights.js";
import { type Feeds, type Model, modelOf, type Optimization } from "../../engine/sessions/engine.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { BlockRange, TransformerPart } from "../../models/transformer-family.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import { disposeKept, groupModels, withChain } from "./block-groups.js";
import { strengthsOf } from "./loras.js";
import { networkModel } from "./model-handle.js";
import { type ModulatedTransformer, type ModulationTable, openModulation } from "./modulation-table.js";
import {
  type SizedTransformer,
  type TransformerPlan,
  transformerOptimization,
  transformerPlanning,
} from "./transformer-plan.js";
import { type Conditions, fixedFeeds, type OpenTransformer, tokenCounts } from "./velocity.js";
import { budgetOf, withinMemory } from "./within-memory.js";

/** A transformer and its run. */
export interface TransformerRun extends ModulatedTransformer {
  /** The noise levels that will be evaluated. */
  readonly sigmas: readonly number[];
  readonly conditions: Conditions;
}

/** Opens a transformer, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withTransformer<T>(
  run: TransformerRun,
  context: StageContext,
  use: (transformer: OpenTransformer) => Promise<T>,
): Promise<T> {
  const { conditions } = run;
  const sized = { ...run, tokens: tokenCounts(conditions), hasNegative: conditions.prompts.negative !== undefined };
  return withinMemory(context, transformerPlanning(sized, context.engine.device), async (plan) => {
    // Modulation linears that were widened when opened cost next to nothing per step. Stored ones are widened at every step: a tenth of
    // a step on the CPU at 512² (bench/); on a GPU 10 ms, and a third of the memory.
    const isModulationFed = plan.groups.length > 1 || optimizationOf(run, context) === "none";
    // Before the transformer opens, so that both are never in memory together.
    const modulation = isModulationFed ? await openModulation(run, run.sigmas, context) : undefined;
    const opened: Planned = { run, plan, modulation, context };
    context.emit({ kind: "activity", text: "opening the transformer" });
    const fixed = fixedFeeds(conditions);
    if (plan.keptBytes === undefined) return withSteps(opened, { fixed, part: "whole" }, use);
    const kept = await keptFeeds(opened, fixed);
    try {
      return await withSteps(opened, { fixed: kept, part: "step" }, use);
    } finally {
      for (const feeds of Object.values(kept)) await disposeKept(Object.values(feeds));
    }
  });
}

/** A run with its plan. */
interface Planned {
  readonly run: TransformerRun;
  readonly plan: TransformerPlan;
  readonly modulation: ModulationTable | undefined;
  readonly context: StageContext;
}

type PromptFeeds = Readonly<Partial<Record<"positive" | "negative", Feeds>>>;

async function withSteps<T>(
  { run, plan, modulation, context }: Planned,
  { fixed, part }: { fixed: PromptFeeds; part: TransformerPart },
  use: (transformer: OpenTransformer) => Promise<T>,
): Promise<T> {
  const models = await modelsOf({ run, plan, modulation, context }, part);
  const strengths = strengthsOf(run.loras);
  const lasting = new Set(Object.values(fixed).flatMap((feeds) => Object.values(feeds)));
  return withChain(context, { ...groupModels(plan, models), lasting }, (chain) =>
    use({
      isStreamed: plan.groups.some(({ isResident }) => !isResident),
      async run(target, prompts, sigma) {
        const shared = {
          ...strengths,
          ...target,
          timestep: float32([1], Float32Array.of(sigma)),
          ...(await modulation?.feeds(sigma, { ranges: plan.groups, part })),
        };
        const outputs = await chain.run(prompts.map((which) => ({ ...fixed[which], ...shared })));
        return outputs.map(({ velocity }) => velocity as Tensor<"float32">);
      },
    }),
  );
}

// What a step is fed of each prompt, with the keys and values of its text and references.
async function keptFeeds(planned: Planned, fixed: Readonly<Partial<Record<string, Tensors>>>): Promise<PromptFeeds> {
  const { run, plan, modulation, context } = planned;
  const models = await modelsOf(planned, "prefix");
  const names = Object.keys(fixed);
  // Text and references are modulated as at noise level 0, whatever the level.
  const vectors = await modulation?.feeds(run.sigmas[0] ?? 0, { ranges: plan.groups, part: "prefix" });
  const shared = { ...strengthsOf(run.loras), ...vectors };
  return withChain(context, groupModels(plan, models), async (chain) => {
    const outputs = await chain.runKept(names.map((name) => ({ ...fixed[name], ...shared })));
    return Object.fromEntries(names.map((name, index) => [name, { ...fixed[name], ...outputs[index] }]));
  });
}

function modelsOf({ run, plan, modulation, context }: Planned, part: TransformerPart): Promise<Model[]> {
  const references = run.conditions.references.length;
  const isModulationFed = modulation !== undefined;
  return transformerModels(run, { groups: plan.groups, part, references, isModulationFed, context });
}

/** The transformer's graph that opens first if all of it fits: the one to prefetch. */
export async function wholeTransformer(
  transformer: ModulatedTransformer & SizedTransformer,
  context: StageContext,
): Promise<Model> {
  const { device } = context.engine;
  const { keptBytes } = transformerPlanning(transformer, device).planFor(budgetOf({ vram: context.vram, device }));
  const [model] = await transformerModels(transformer, {
    groups: [{ from: 0, to: transformer.network.blocks }],
    part: keptBytes === undefined ? "whole" : "prefix",
    references: transformer.tokens.references.length,
    isModulationFed: optimizationOf(transformer, context) === "none",
    context,
  });
  return model!;
}

function optimizationOf({ file }: ModulatedTransformer, { engine, vram }: StageContext): Optimization {
  return transformerOptimization(file, { device: engine.device, vram });
}

/** Names of its graphs in messages. */
const NAMES: Readonly<Record<TransformerPart, string>> = {
  whole: "the transformer",
  prefix: "the transformer's text and references",
  step: "the transformer",
};

interface Opening {
  readonly groups: readonly BlockRange[];
  readonly part: TransformerPart;
  /** Number of references. */
  readonly references: number;
  readonly isModulationFed: boolean;
  readonly context: StageContext;
}

async function transformerModels(
  run: ModulatedTransformer,
  { groups, part, references, isModulationFed, context }: Opening,
): Promise<Model[]> {
  const { file, network, compute, loras } = run;
  const models: Model[] = [];
  const optimization = optimizationOf(run, context);
  const widening = wideningOf(optimization, context.engine.device);
  for (const { from, to } of groups) {
    const blocks: BlockRange = { from, to };
    const others = {
      compute,
      widening,
      blocks,
      isModulationFed,
      // A step is the same graph for any number of references.
      ...{ network: network.key, part, ...(part !== "step" && { references }) },
      loras: loras.map(({ file: path, identity }) => [path, identity]),
    };
    models.push(
      await networkModel(context, { network: "transformer", file, others }, async () => {
        const title = `${NAMES[part]}${groups.length === 1 ? "" : `, blocks ${from} to ${to - 1}`}`;
        const graph = new Graph(title, { widening });
        const weights = Weights.of(
          graph,
          file.checkpoint,
          loras.map(({ adapter }) => adapter),
        );
        network.build(graph, weights, { compute, part, references, blocks, isModulationFed });
        return modelOf(graph, optimization, "transformer");
      }),
    );
  }
  return models;
}
