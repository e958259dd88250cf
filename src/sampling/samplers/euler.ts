// Euler's method, and its ancestral form for rectified flow (comfy/k_diffusion/sampling.py of v0.3.64, s_noise 1, η 1).

import { differenceOver, weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

const f32 = Math.fround;

/** x += (x − D)/σ · (σ' − σ). */
export async function euler(
  x: Float32Array,
  denoise: Denoise,
  run: Pick<SamplerRun, "sigmas" | "onStep" | "signal">,
): Promise<Float32Array> {
  for (const { sigma, next } of stepsOf(run)) {
    const slope = differenceOver(x, await denoise(x, sigma), sigma);
    x = weightedSum([1, x], [f32(next - sigma), slope]);
  }
  return x;
}

/** Steps down to σ'²/σ, below σ', and adds as much noise as brings x back up to σ'. */
export async function eulerAncestral(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  const noise = run.noise.gaussian();
  for (const { sigma, next } of stepsOf(run)) {
    const denoised = await denoise(x, sigma);
    if (next === 0) {
      x = denoised;
      continue;
    }
    const down = f32(next * f32(1 + f32(f32(next / sigma) - 1)));
    const alpha = f32(1 - next);
    const alphaDown = f32(1 - down);
    const kept = f32(f32(f32(down * down) * f32(alpha * alpha)) / f32(alphaDown * alphaDown));
    const renoise = Math.sqrt(f32(f32(next * next) - kept));
    const ratio = f32(down / sigma);
    const stepped = weightedSum([ratio, x], [f32(1 - ratio), denoised]);
    x = weightedSum([f32(alpha / alphaDown), stepped], [renoise, noise()]);
  }
  return x;
}
