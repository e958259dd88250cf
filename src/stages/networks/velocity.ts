// The transformer as the sampler's velocity function of latent and sigma; everything else is fixed for the run.

import { latentGrid, patchify, placedGrids, ropeTables, unpatchify } from "../../models/qwen-image/tokens.js";
import type { TransformerConfig } from "../../models/qwen-image/transformer-config.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import type { Velocity } from "../../sampling/guidance.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";

/** Embeddings [1, tokens, width] of the prompt, and of the negative prompt if guidance uses it. */
export interface Embeds {
  readonly positive: Tensor<"float32">;
  readonly negative: Tensor<"float32"> | undefined;
}

/** What is fixed for a run: the shape of the latent, normalised reference latents, embeddings. */
export interface Conditions {
  readonly shape: readonly number[];
  readonly references: readonly Tensor<"float32">[];
  readonly embeds: Embeds;
  readonly config: TransformerConfig;
}

/** An open transformer. */
export interface OpenTransformer {
  /** Whether its weights are read again at every pass; then both prompts should run in one pass. */
  readonly isStreamed: boolean;
  /** Velocities [1, target, 64] at a noise level, one per feeds. */
  run(feeds: readonly Tensors[], sigma: number): Promise<Tensor<"float32">[]>;
}

/** Tokens of a run: the longer prompt, the target, and all references together. */
export function tokenLengths({
  shape,
  references,
  embeds,
  config,
}: Conditions): Readonly<Record<"text" | "target" | "reference", number>> {
  const tokens = (latent: Tensor) => {
    const { rows, columns } = latentGrid(latent, config.patchSize);
    return rows * columns;
  };
  return {
    text: Math.max(embeds.positive.shape[1]!, embeds.negative?.shape[1] ?? 0),
    target: tokens(float32(shape)),
    reference: references.reduce((sum, each) => sum + tokens(each), 0),
  };
}

/** The velocity of an open transformer under fixed conditions. */
export function velocityOf(transformer: OpenTransformer, { shape, references, embeds, config }: Conditions): Velocity {
  const grids = placedGrids(float32(shape), references, config);
  const fixed = (prompt: Tensor<"float32">): Tensors => {
    const { cos, sin } = ropeTables(prompt.shape[1]!, grids, config);
    return { reference_tokens: patchify(references, config), prompt_embeds: prompt, rope_cos: cos, rope_sin: sin };
  };
  const feeds = { positive: fixed(embeds.positive), negative: embeds.negative && fixed(embeds.negative) };
  const evaluate = async (x: Float32Array, sigma: number, prompts: readonly (Tensors | undefined)[]) => {
    const latent = patchify([float32(shape, x)], config);
    const velocities = await transformer.run(
      prompts.flatMap((prompt) => (prompt ? [{ ...prompt, latent_tokens: latent }] : [])),
      sigma,
    );
    return velocities.map((each) => unpatchify(each, shape, config).data);
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
