// Two evaluations a step: Heun's method and DPM-Solver-2 (comfy/k_diffusion/sampling.py of v0.3.64, s_churn 0).

import { differenceOver, weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

const f32 = Math.fround;

/** An Euler step with the mean of the slopes at its two ends; a plain Euler step to σ' = 0. */
export async function heun(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  for (const { sigma, next } of stepsOf(run)) {
    const slope = differenceOver(x, await denoise(x, sigma), sigma);
    const length = f32(next - sigma);
    const end = weightedSum([1, x], [length, slope]);
    if (next === 0) {
      x = end;
      continue;
    }
    const endSlope = differenceOver(end, await denoise(end, next), next);
    x = weightedSum([1, x], [length, weightedSum([0.5, slope], [0.5, endSlope])]);
  }
  return x;
}

/** An Euler step with the slope at the geometric mean of σ and σ'; a plain Euler step to σ' = 0. */
export async function dpm2(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  for (const { sigma, next } of stepsOf(run)) {
    const slope = differenceOver(x, await denoise(x, sigma), sigma);
    if (next === 0) {
      x = weightedSum([1, x], [f32(next - sigma), slope]);
      continue;
    }
    const middle = geometricMean(sigma, next);
    const halfway = weightedSum([1, x], [f32(middle - sigma), slope]);
    const middleSlope = differenceOver(halfway, await denoise(halfway, middle), middle);
    x = weightedSum([1, x], [f32(next - sigma), middleSlope]);
  }
  return x;
}

function geometricMean(a: number, b: number): number {
  const [logA, logB] = [f32(Math.log(a)), f32(Math.log(b))];
  return f32(Math.exp(f32(logB - f32(f32(logB - logA) * 0.5))));
}
