// Opens the transformer by its memory plan: whole or in groups of blocks, with the modulation in its graph or fed, with keys and values of text and
// references computed once for the schedule or at every step.
import { Weights } from "../../checkpoint/weights.js";
import { type Feeds, type Model, modelOf } from "../../engine/sessions/engine.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { FedGraph, TransformerPart } from "../../models/transformer-family.js";
import { float32, given, type Tensor, type Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import { disposeKept, type GroupModels, groupModels, withChain } from "./block-groups.js";
import { strengthsOf } from "./loras.js";
import { networkModel } from "./model-handle.js";
import { type ModulatedTransformer, type ModulationTable, openModulation } from "./modulation-table.js";
import { type StepCache, stepCache } from "./reused-blocks.js";
import {
  type SizedTransformer,
  streams,
  type TransformerOpening,
  type TransformerPlan,
  transformerOpening,
  transformerPlanning,
} from "./transformer-plan.js";
import { type Conditions, fixedFeeds, type OpenTransformer, tokenCounts } from "./velocity.js";
import { budgetOf, withinMemory } from "./within-memory.js";

/** A transformer and its run. */
export interface TransformerRun extends ModulatedTransformer {
  /** The noise levels that will be evaluated. */
  readonly sigmas: readonly number[];
  readonly conditions: Conditions;
  /** The threshold of a step cache, see StepCacheOptions; undefined: every evaluation is computed whole. */
  readonly stepCache?: number | undefined;
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
    // Modulation linears that are widened when they open, or few times, cost next to nothing per step. Others are widened at every step: a tenth of
    // a step on the CPU at 512² (bench/); on a GPU 10 ms, and a third of the memory.
    const isModulationFed = streams(plan) || openingOf(run, context).isModulationFed;
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
  planned: Planned,
  { fixed, part }: { fixed: PromptFeeds; part: TransformerPart },
  use: (transformer: OpenTransformer) => Promise<T>,
): Promise<T> {
  const { run, plan, modulation } = planned;
  const graphs = graphsOf(planned, part);
  const models = await modelsOf(planned, graphs);
  const strengths = strengthsOf(run.loras);
  const lasting = new Set(Object.values(fixed).flatMap((feeds) => Object.values(feeds)));
  return withEvaluations({ ...planned, models, lasting }, ({ evaluate, used }) =>
    use({
      isStreamed: streams(plan),
      used,
      async run(target, prompts, sigma) {
        const vectors = (await modulation?.feeds(sigma, graphs)) ?? {};
        const shared = {
          ...strengths,
          ...target,
          timestep: float32([1], Float32Array.of(sigma)),
          // One prompt alone takes them.
          ...(prompts.length === 1 ? given(vectors) : vectors),
        };
        return evaluate(prompts.map((prompt) => ({ prompt, feeds: { ...fixed[prompt], ...shared }, target })));
      },
    }),
  );
}

/** Evaluations of an open transformer. */
interface OpenEvaluations {
  readonly evaluate: StepCache["run"];
  readonly used: OpenTransformer["used"];
}

// Opens the graphs of a plan, as one chain or as those of a step cache.
async function withEvaluations<T>(
  { run, plan, context, models, lasting }: Planned & Required<Pick<GroupModels, "models" | "lasting">>,
  use: (open: OpenEvaluations) => Promise<T>,
): Promise<T> {
  const { stepCache: threshold, network } = run;
  if (threshold === undefined)
    return withChain(context, { ...groupModels(plan, models), lasting }, (chain) =>
      use({
        used: () => undefined,
        async evaluate(evaluations) {
          const outputs = await chain.run(evaluations.map(({ feeds }) => feeds));
          return outputs.map(({ velocity }) => velocity as Tensor<"float32">);
        },
      }),
    );
  const [first, ...others] = models as [Model, ...Model[]];
  const tailModels = groupModels({ groups: plan.groups.slice(1), opensAhead: plan.opensAhead }, others);
  const tailInputs = others.flatMap(({ inputs }) => inputs);
  return withChain(context, { models: [first], opensAhead: false, lasting }, (head) =>
    withChain(context, { ...tailModels, lasting }, async (tail) => {
      const cache = stepCache({ head, tail, tailInputs }, { network, threshold });
      try {
        return await use({ used: cache.used, evaluate: cache.run });
      } finally {
        await cache.dispose();
      }
    }),
  );
}

// What a step is fed of each prompt, with the keys and values of its text and references.
async function keptFeeds(planned: Planned, fixed: Readonly<Partial<Record<string, Tensors>>>): Promise<PromptFeeds> {
  const { run, plan, modulation, context } = planned;
  const graphs = graphsOf(planned, "prefix");
  const models = await modelsOf(planned, graphs);
  const names = Object.keys(fixed);
  // Text and references are modulated as at noise level 0, whatever the level.
  const vectors = await modulation?.feeds(run.sigmas[0] ?? 0, graphs);
  const shared = { ...strengthsOf(run.loras), ...vectors };
  return withChain(context, groupModels(plan, models), async (chain) => {
    const outputs = await chain.runKept(names.map((name) => ({ ...fixed[name], ...shared })));
    return Object.fromEntries(names.map((name, index) => [name, { ...fixed[name], ...outputs[index] }]));
  });
}

// The graphs of a plan's groups. Those of a prefix know nothing of a step cache.
function graphsOf({ run, plan: { groups } }: Pick<Planned, "run" | "plan">, part: TransformerPart): FedGraph[] {
  const isCached = run.stepCache !== undefined && part !== "prefix";
  return groups.map(({ from, to }) => ({
    ...{ blocks: { from, to }, part },
    ...(isCached && { stepCache: from === 0 ? "head" : "tail" }),
  }));
}

function modelsOf({ run, modulation, context }: Planned, graphs: readonly FedGraph[]): Promise<Model[]> {
  const references = run.conditions.references.length;
  const isModulationFed = modulation !== undefined;
  return transformerModels(run, { graphs, references, isModulationFed, context });
}

/** The transformer's graph that opens first if all of it fits, or with a step cache its largest one: the one to prefetch. */
export async function wholeTransformer(
  transformer: ModulatedTransformer & SizedTransformer,
  context: StageContext,
): Promise<Model> {
  const { device } = context.engine;
  const { keptBytes } = transformerPlanning(transformer, device).planFor(budgetOf({ vram: context.vram, device }));
  const isCached = transformer.stepCache !== undefined;
  const part = keptBytes === undefined ? "whole" : "prefix";
  const graph: FedGraph = {
    ...{ blocks: { from: isCached ? 1 : 0, to: transformer.network.blocks }, part },
    ...(isCached && part === "whole" && { stepCache: "tail" }),
  };
  const [model] = await transformerModels(transformer, {
    graphs: [graph],
    references: transformer.tokens.references.length,
    isModulationFed: openingOf(transformer, context).isModulationFed,
    context,
  });
  return model!;
}

function openingOf({ file, evaluations }: ModulatedTransformer, { engine, vram }: StageContext): TransformerOpening {
  return transformerOpening(file, { device: engine.device, vram, evaluations });
}

/** Names of its graphs in messages. */
const NAMES: Readonly<Record<TransformerPart, string>> = {
  whole: "the transformer",
  prefix: "the transformer's text and references",
  step: "the transformer",
};

interface Opening {
  readonly graphs: readonly FedGraph[];
  /** Number of references. */
  readonly references: number;
  readonly isModulationFed: boolean;
  readonly context: StageContext;
}

async function transformerModels(
  run: ModulatedTransformer,
  { graphs, references, isModulationFed, context }: Opening,
): Promise<Model[]> {
  const { file, network, compute, loras } = run;
  const models: Model[] = [];
  const { optimization } = openingOf(run, context);
  const widening = wideningOf(optimization, context.engine.device);
  for (const { blocks, part, stepCache: cached } of graphs) {
    const { from, to } = blocks;
    const others = {
      compute,
      widening,
      blocks,
      isModulationFed,
      // A step is the same graph for any number of references.
      ...{ network: network.key, part, ...(part !== "step" && { references }), ...(cached && { stepCache: cached }) },
    };
    models.push(
      await networkModel(context, { network: "transformer", file, loras, others }, async () => {
        const isAll = from === 0 && to === network.blocks;
        const title = `${NAMES[part]}${isAll ? "" : `, blocks ${from} to ${to - 1}`}`;
        const graph = new Graph(title, { widening });
        const weights = Weights.of(
          graph,
          file.checkpoint,
          loras.map(({ adapter }) => adapter),
        );
        network.build(graph, weights, {
          ...{ compute, part, references, blocks, isModulationFed },
          ...(cached && { stepCache: cached }),
        });
        return modelOf(graph, optimization, "transformer");
      }),
    );
  }
  return models;
}
