// The transformer as the sampler sees it: a function of the latent and sigma, everything else fixed for the run.
import type { Session } from "../engine/engine.js";
import type { LatentStatistics, TransformerConfig } from "../models/qwen-image/config.js";
import { latentGrid, patchify, ropeTables, unpatchify, type Grid } from "../models/qwen-image/tokens.js";
import type { Velocity } from "../sampling/guidance.js";
import { float32, type Tensor, type Tensors } from "../tensor.js";

/** Embeddings [1, tokens, width] of the prompt, and of the negative one where guidance looks at it. */
export interface Embeds {
  readonly positive: Tensor<"float32">;
  readonly negative: Tensor<"float32"> | undefined;
}

/** What stays the same over a run: the shape of the latent, normalised reference latents, embeddings, strengths of the LoRAs. */
export interface Conditions {
  readonly shape: readonly number[];
  readonly references: readonly Tensor<"float32">[];
  readonly embeds: Embeds;
  readonly config: TransformerConfig;
  readonly strengths: Tensors;
}

/** The velocity of an open transformer under fixed conditions. */
export function velocityOf(session: Session, { shape, references, embeds, config, strengths }: Conditions): Velocity {
  const target = latentGrid(float32(shape), config.patchSize);
  const grids: [Grid, ...Grid[]] = [target, ...references.map((each) => latentGrid(each, config.patchSize))];
  const fixed = (prompt: Tensor<"float32">): Tensors => {
    const { cos, sin } = ropeTables(prompt.shape[1]!, grids, config);
    return { reference_tokens: patchify(references, config), prompt_embeds: prompt, rope_cos: cos, rope_sin: sin, ...strengths };
  };
  const feeds = { positive: fixed(embeds.positive), negative: embeds.negative && fixed(embeds.negative) };
  return async (x, sigma, which) => {
    const { velocity } = await session.run({
      ...feeds[which],
      latent_tokens: patchify([float32(shape, x)], config),
      timestep: float32([1], Float32Array.of(sigma)),
    });
    return unpatchify(velocity as Tensor<"float32">, shape, config).data;
  };
}

/** A latent [1, channels, h, w] as the transformer knows it: (latent − mean) / std per channel, in float32. */
export function normalisedLatent(latent: Tensor<"float32">, { mean, std }: LatentStatistics): Tensor<"float32"> {
  const area = latent.shape[2]! * latent.shape[3]!;
  const values = latent.data.map((value, index) => {
    const channel = Math.floor(index / area);
    return Math.fround(value - Math.fround(mean[channel]!)) / Math.fround(std[channel]!);
  });
  return float32(latent.shape, values);
}
