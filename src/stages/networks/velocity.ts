// The transformer as the sampler's velocity function of latent and sigma; everything else is fixed for the run.

import type { Prompt, TokenCounts, Transformer } from "../../models/transformer-family.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import type { Velocity } from "../../sampling/guidance.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";

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
  /** Velocities, in tokens, at a noise level, one per feeds. */
  run(feeds: readonly Tensors[], sigma: number): Promise<Tensor<"float32">[]>;
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

/** The velocity of an open transformer under fixed conditions. */
export function velocityOf(
  transformer: OpenTransformer,
  { shape, references, prompts, network }: Conditions,
): Velocity {
  const fixed = (prompt: Prompt): Tensors => network.conditionFeeds({ shape, references, prompt });
  const feeds = { positive: fixed(prompts.positive), negative: prompts.negative && fixed(prompts.negative) };
  const evaluate = async (x: Float32Array, sigma: number, prompts: readonly (Tensors | undefined)[]) => {
    const target = network.targetFeeds(float32(shape, x));
    const velocities = await transformer.run(
      prompts.flatMap((prompt) => (prompt ? [{ ...prompt, ...target }] : [])),
      sigma,
    );
    return velocities.map((each) => network.latentOf(each, shape).data);
  };
  // The negative velocity of the last call, computed in the same pass: guidance requests it next.
  let ahead:
    | { readonly x: Float32Array; readonly sigma: number; readonly velocity: Float32Array | undefined }
    | undefined;
  return async (x, sigma, which) => {
    if (which === "negative" && ahead?.velocity && ahead.x === x && ahead.sigma === sigma) return ahead.velocity;
    const [velocity, negative] = await evaluate(x, sigma, [
      feeds[which],
      which === "positive" && transformer.isStreamed ? feeds.negative : undefined,
    ]);
    ahead = { x, sigma, velocity: negative };
    return velocity!;
  };
}

/** A latent [1, channels, h, w] normalised for the transformer: (latent − mean) / std per channel, in float32. */
export function normalisedLatent(latent: Tensor<"float32">, { mean, std }: LatentStatistics): Tensor<"float32"> {
  const area = latent.shape[2]! * latent.shape[3]!;
  const values = latent.data.map((value, index) => {
    const channel = Math.floor(index / area);
    return Math.fround(value - Math.fround(mean[channel]!)) / Math.fround(std[channel]!);
  });
  return float32(latent.shape, values);
}
