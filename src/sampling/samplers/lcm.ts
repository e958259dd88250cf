// Sampling of latent consistency models (Luo et al. 2023, arXiv 2310.04378): predict the clean latent, add noise again, repeat.
// With the options of ComfyUI's SamplerLCM node.

import { weightedSum } from "../float32.js";
import { type Denoise, type SamplerRun, stepsOf } from "../sampler.js";

const f32 = Math.fround;

/** x = D, then σ'·noise + (1 − σ')·x while σ' > 0. */
export async function lcm(x: Float32Array, denoise: Denoise, run: SamplerRun): Promise<Float32Array> {
  const { scale = 1, endScale = scale, clip = 0 } = run.lcm ?? {};
  const draw = run.noise.gaussian();
  const last = run.sigmas.length - 2;
  for (const { index, sigma, next } of stepsOf(run)) {
    x = await denoise(x, sigma);
    if (next === 0) continue;
    const drawn = clip > 0 ? clipped(draw(), clip) : draw();
    const factor = scale + (endScale - scale) * (last > 0 ? index / last : 0);
    x = weightedSum([next, weightedSum([factor, drawn])], [f32(1 - next), x]);
  }
  return x;
}

// Clips noise to ± deviations · its own standard deviation, which needs two values.
function clipped(noise: Float32Array, deviations: number): Float32Array {
  if (noise.length < 2) return noise;
  const mean = noise.reduce((sum, value) => sum + value, 0) / noise.length;
  const variance = noise.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (noise.length - 1);
  const most = f32(deviations * f32(Math.sqrt(variance)));
  return noise.map((value) => Math.max(-most, Math.min(value, most)));
}
