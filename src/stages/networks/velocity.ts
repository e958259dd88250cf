// The transformer as the sampler's velocity function of latent and sigma; everything else is fixed for the run.

import type { Prompt, TokenCounts, Transformer } from "../../models/transformer-family.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import type { Velocity } from "../../sampling/guidance.js";
import { normaliseLatent } from "../../sampling/latent-scale.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import type { StepCacheUse } from "./reused-blocks.js";

/** The prompt, and the negative prompt if guidance uses it. */
export interface Prompts {
  readonly positive: Prompt;
  readonly negative: Prompt | undefined;
}

/** What is fixed for a run: the shape of the latent, normalised reference latents, prompts. */
export interface Conditions {
  readonly shape: readonly number[];
  readonly references: readonly Tensor<"float32">[];
  readonly prompts: Prompts;
  readonly network: Transformer;
}

/** An open transformer. */
export interface OpenTransformer {
  /** Whether its weights are read again at every pass; then both prompts should run in one pass. */
  readonly isStreamed: boolean;
  /** What a step cache did so far; undefined without one. */
  used(): StepCacheUse | undefined;
  /** Velocities, in tokens, of a target under each of some prompts at a noise level. */
  run(target: Tensors, prompts: readonly (keyof Prompts)[], sigma: number): Promise<Tensor<"float32">[]>;
}

/** Tokens of a run: the longer prompt, the target, and each reference. */
export function tokenCounts({ shape, references, prompts, network }: Conditions): TokenCounts {
  const along = (cells: number) => Math.ceil(cells / network.patchSize);
  const tokens = (latent: readonly number[]) => along(latent[2]!) * along(latent[3]!);
  return {
    text: Math.max(prompts.positive.embeds.shape[1]!, prompts.negative?.embeds.shape[1] ?? 0),
    target: tokens(shape),
    references: references.map((each) => tokens(each.shape)),
  };
}

/** What is fed at every step under some conditions, beside the target and the noise level: of each prompt. */
export function fixedFeeds({
  shape,
  references,
  prompts: { positive, negative },
  network,
}: Conditions): Readonly<Partial<Record<keyof Prompts, Tensors>>> {
  const feeds = (prompt: Prompt) => network.conditionFeeds({ shape, references, prompt });
  return { positive: feeds(positive), ...(negative && { negative: feeds(negative) }) };
}

/** The velocity of a transformer that was opened for these conditions. */
export function velocityOf(transformer: OpenTransformer, { shape, prompts, network }: Conditions): Velocity {
  const evaluate = async (x: Float32Array, sigma: number, which: readonly (keyof Prompts)[]) => {
    const velocities = await transformer.run(network.targetFeeds(float32(shape, x)), which, sigma);
    return velocities.map((each) => network.latentOf(each, shape).data);
  };
  // The negative velocity of the last call, computed in the same pass: guidance requests it next.
  let ahead:
    | { readonly x: Float32Array; readonly sigma: number; readonly velocity: Float32Array | undefined }
    | undefined;
  return async (x, sigma, which) => {
    if (which === "negative" && ahead?.velocity && ahead.x === x && ahead.sigma === sigma) return ahead.velocity;
    const isBoth = which === "positive" && transformer.isStreamed && prompts.negative !== undefined;
    const [velocity, negative] = await evaluate(x, sigma, isBoth ? [which, "negative"] : [which]);
    ahead = { x, sigma, velocity: negative };
    return velocity!;
  };
}

/** A latent [1, channels, h, w] normalised for the transformer: (latent − mean) / std per channel, in float32. */
export function normalisedLatent(latent: Tensor<"float32">, statistics: LatentStatistics): Tensor<"float32"> {
  return float32(latent.shape, normaliseLatent(latent.data, statistics));
}
