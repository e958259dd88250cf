// Improved pseudo linear multistep (Zhang and Chen 2022, arXiv 2204.13902): Adams-Bashforth of order up to 4 on the slope.

import { differenceOver, type Term, weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

/** Weights of the newest slope first, for 1, 2, 3 and 4 known slopes, and their common divisor. */
const ADAMS_BASHFORTH = [
  { weights: [1], divisor: 1 },
  { weights: [3, -1], divisor: 2 },
  { weights: [23, -16, 5], divisor: 12 },
  { weights: [55, -59, 37, -9], divisor: 24 },
] as const;

/** One evaluation a step; the last step, to σ' = 0, takes the prediction itself. */
export async function ipndm(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  let slopes: readonly Float32Array[] = [];
  for (const { sigma, next } of stepsOf(run)) {
    const denoised = await denoise(x, sigma);
    slopes = [differenceOver(x, denoised, sigma), ...slopes].slice(0, ADAMS_BASHFORTH.length);
    x = next === 0 ? denoised : weightedSum([1, x], [1, increment(slopes, Math.fround(next - sigma))]);
  }
  return x;
}

function increment(slopes: readonly Float32Array[], length: number): Float32Array {
  const { weights, divisor } = ADAMS_BASHFORTH[slopes.length - 1]!;
  const [first, ...others] = slopes.map((slope, i): Term => [weights[i]!, slope]);
  return weightedSum(first!, ...others).map((value) => Math.fround(length * value) / divisor);
}
