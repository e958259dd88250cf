// DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095) and its stochastic form, as comfy/k_diffusion/sampling.py of v0.3.64 has them.

import { weightedSum } from "../float32.js";
import { type Denoise, offsetFirstSigma, type SamplerRun, stepsOf } from "../sampler.js";
import { halfLogSnr, negativeLog } from "../signal-to-noise.js";

const f32 = Math.fround;

/** Second order in λ = −ln σ, also for flow models; first order on the first step and on the one to σ' = 0. */
export async function dpmpp2m(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  let previous: { denoised: Float32Array; lambda: number } | undefined;
  for (const { sigma, next } of stepsOf(run)) {
    const denoised = await denoise(x, sigma);
    const lambda = negativeLog(sigma);
    const lambdaNext = negativeLog(next);
    const length = f32(lambdaNext - lambda);
    let target = denoised;
    if (previous !== undefined && next !== 0) {
      const ratio = f32(f32(lambda - previous.lambda) / length);
      const share = f32(1 / f32(2 * ratio));
      target = weightedSum([f32(1 + share), denoised], [-share, previous.denoised]);
    }
    const kept = f32(f32(Math.exp(-lambdaNext)) / f32(Math.exp(-lambda)));
    x = weightedSum([kept, x], [-f32(Math.expm1(-length)), target]);
    previous = { denoised, lambda };
  }
  return x;
}

/** The stochastic form, midpoint, η = 1, in λ = ln((1 − σ)/σ), with the noise of a Brownian path; the step to σ' = 0 takes the prediction. */
export async function dpmpp2mSde(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  const positive = run.sigmas.filter((sigma) => sigma > 0);
  const noise = run.noise.brownian(Math.min(...positive), Math.max(...positive));
  let previous: { denoised: Float32Array; length: number } | undefined;
  for (const { sigma, next } of stepsOf(offsetFirstSigma(run))) {
    const denoised = await denoise(x, sigma);
    if (next === 0) {
      x = denoised;
      continue;
    }
    const lambdaNext = halfLogSnr(next);
    const length = f32(lambdaNext - halfLogSnr(sigma));
    const alpha = f32(next * f32(Math.exp(lambdaNext)));
    const change = -f32(Math.expm1(-2 * length));
    const kept = f32(f32(next / sigma) * f32(Math.exp(-length)));
    x = weightedSum([kept, x], [f32(alpha * change), denoised]);
    if (previous !== undefined) {
      const inverseRatio = f32(1 / f32(previous.length / length));
      const difference = weightedSum([1, denoised], [-1, previous.denoised]);
      x = weightedSum([1, x], [f32(f32(f32(0.5 * alpha) * change) * inverseRatio), difference]);
    }
    const added = weightedSum([next, noise(sigma, next)]);
    x = weightedSum([1, x], [Math.sqrt(change), added]);
    previous = { denoised, length };
  }
  return x;
}
