// Sampling of latent consistency models (Luo et al. 2023, arXiv 2310.04378): predict the clean latent, add noise again, repeat.

import { weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

/** x = D, then σ'·noise + (1 − σ')·x while σ' > 0. */
export async function lcm(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  const noise = run.noise.gaussian();
  for (const { sigma, next } of stepsOf(run)) {
    x = await denoise(x, sigma);
    if (next > 0) x = weightedSum([next, noise()], [Math.fround(1 - next), x]);
  }
  return x;
}
