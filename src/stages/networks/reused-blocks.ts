// Evaluations with a step cache: the first block runs, and the others where what it added changed (models/step-cache.ts). Each prompt is compared with its
// own last evaluation that was computed whole, whichever step of the sampler asked for it.
import type { Feeds, KeptTensor } from "../../engine/sessions/engine.js";
import { before, CHANGE, TAIL_RESIDUAL, THRESHOLD } from "../../models/step-cache.js";
import type { Transformer } from "../../models/transformer-family.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import { type Chain, disposeKept } from "./block-groups.js";

/** Evaluations of a transformer, of all prompts: those that were computed whole, and those of which only the first block was. */
export interface EvaluationCounts {
  readonly whole: number;
  readonly reused: number;
}

/** What a step cache did. */
export interface StepCacheUse extends EvaluationCounts {
  /** The shares by which the first block changed, of all evaluations that were compared, in their order. */
  readonly changes: readonly number[];
}

/** The open graphs of a step cache. */
export interface CachedChains {
  readonly head: Chain;
  readonly tail: Chain;
  /** Names of the inputs of the graphs of `tail`. */
  readonly tailInputs: readonly string[];
}

/** How they are used. */
export interface StepCacheOptions {
  readonly network: Pick<Transformer, "compared" | "width">;
  /** Largest relative change of what the first block adds at which the others are not run; 0: they always are. */
  readonly threshold: number;
}

/** One prompt's evaluation: its name, all that its graphs are fed, and what of it is the target. */
export interface CachedEvaluation {
  readonly prompt: string;
  readonly feeds: Feeds;
  readonly target: Tensors;
}

/** The step cache of one sampling run. */
export interface StepCache {
  /** Velocities, in tokens, of evaluations of different prompts. */
  run(evaluations: readonly CachedEvaluation[]): Promise<Tensor<"float32">[]>;
  used(): StepCacheUse;
  /** Frees what is kept in the engine. */
  dispose(): Promise<void>;
}

/** What is kept of a prompt's last evaluation that was computed whole. */
interface Kept {
  readonly target: Tensors;
  /** Behind the first block. */
  readonly tokens: Tensor | KeptTensor;
  readonly residual: Tensor | KeptTensor;
}

/** A step cache that knows nothing yet. */
export function stepCache(
  { head, tail, tailInputs }: CachedChains,
  { network, threshold }: StepCacheOptions,
): StepCache {
  const { name } = network.compared;
  const stream = `${name}.1`;
  const nothing = float32([0, network.width], new Float32Array(0));
  const kept = new Map<string, Kept>();
  const changes: number[] = [];
  let [whole, reused] = [0, 0];

  const feedsBefore = ({ prompt, target }: CachedEvaluation): Feeds => {
    const known = kept.get(prompt);
    const renamed = Object.entries(known?.target ?? target).map(([each, tensor]) => [before(each), tensor] as const);
    return {
      ...Object.fromEntries(renamed),
      [before(stream)]: known?.tokens ?? nothing,
      [TAIL_RESIDUAL]: known?.residual ?? nothing,
      [THRESHOLD]: float32([1], Float32Array.of(known && threshold > 0 ? threshold : -1)),
    };
  };
  const forget = async (prompt: string) => {
    const { tokens, residual } = kept.get(prompt) ?? {};
    kept.delete(prompt);
    await disposeKept([tokens, residual].filter((each) => each !== undefined));
  };
  const computeOthers = async (
    evaluations: readonly (CachedEvaluation & { readonly streams: Feeds })[],
  ): Promise<Tensor<"float32">[]> => {
    if (evaluations.length === 0) return [];
    // Before the next ones are kept, so that there is one of each at a time.
    for (const { prompt } of evaluations) await forget(prompt);
    const outputs = await tail.runKeeping(
      evaluations.map(({ feeds, streams }) => ({ ...feeds, ...streams })),
      [TAIL_RESIDUAL],
    );
    for (const [index, { prompt, target, streams }] of evaluations.entries())
      kept.set(prompt, { target, tokens: streams[stream]!, residual: outputs[index]![TAIL_RESIDUAL]! });
    return outputs.map(({ velocity }) => velocity as Tensor<"float32">);
  };
  return {
    async run(evaluations) {
      const begun = await head.runKeeping(
        evaluations.map((each) => ({ ...each.feeds, ...feedsBefore(each) })),
        tailInputs,
      );
      const velocities = new Map<string, Tensor<"float32">>();
      const others: (CachedEvaluation & { readonly streams: Feeds })[] = [];
      for (const [index, evaluation] of evaluations.entries()) {
        const { velocity, [CHANGE]: change, ...streams } = begun[index]!;
        if (kept.has(evaluation.prompt) && threshold > 0) changes.push((change as Tensor<"float32">).data[0]!);
        if (velocity!.shape[1] === 0) others.push({ ...evaluation, streams });
        else {
          velocities.set(evaluation.prompt, velocity as Tensor<"float32">);
          await disposeKept(Object.values(streams));
        }
      }
      try {
        const computed = await computeOthers(others);
        for (const [index, { prompt }] of others.entries()) velocities.set(prompt, computed[index]!);
      } finally {
        const remaining = new Set([...kept.values()].map(({ tokens }) => tokens));
        const streams = others.flatMap((each) => Object.values(each.streams));
        await disposeKept(streams.filter((each) => !remaining.has(each)));
      }
      whole += others.length;
      reused += evaluations.length - others.length;
      return evaluations.map(({ prompt }) => velocities.get(prompt)!);
    },
    used: () => ({ whole, reused, changes }),
    async dispose() {
      for (const prompt of [...kept.keys()]) await forget(prompt);
    },
  };
}
