// The second-order multistep of RES (Zhang et al. 2023, arXiv 2308.02157), without added noise (η = 0).

import { differenceOver, weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";
import { negativeLog } from "../signal-to-noise.js";

const f32 = Math.fround;

/** An exponential integrator in −ln σ; the first step and the one to σ' = 0 are Euler's. */
export async function resMultistep(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  let previous: { denoised: Float32Array; lambda: number } | undefined;
  for (const { sigma, next } of stepsOf(run)) {
    const denoised = await denoise(x, sigma);
    const lambda = negativeLog(sigma);
    if (next === 0 || previous === undefined) {
      x = weightedSum([1, x], [f32(next - sigma), differenceOver(x, denoised, sigma)]);
    } else {
      const length = f32(negativeLog(next) - lambda);
      const { newest, older } = weights(length, f32(f32(previous.lambda - lambda) / length));
      const target = weightedSum([newest, denoised], [older, previous.denoised]);
      x = weightedSum([f32(Math.exp(-length)), x], [length, target]);
    }
    previous = { denoised, lambda };
  }
  return x;
}

// b1 = φ1 − φ2/c2 and b2 = φ2/c2 at −h; a division by zero counts as 0.
function weights(length: number, c2: number): { newest: number; older: number } {
  const phi1 = f32(f32(Math.expm1(-length)) / -length);
  const phi2 = f32(f32(phi1 - 1) / -length);
  const older = f32(phi2 / c2);
  const newest = f32(phi1 - older);
  return { newest: Number.isNaN(newest) ? 0 : newest, older: Number.isNaN(older) ? 0 : older };
}
