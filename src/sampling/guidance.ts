// From a model's velocity to a guided prediction of the clean latent: classifier-free guidance and CFGNorm
// (comfy/samplers.py cfg_function and comfy_extras/nodes_cfg.py of v0.3.64).

import { weightedSum } from "./float32.js";
import type { Denoise } from "./sampler.js";

const f32 = Math.fround;

/** Keeps the ratio of two norms finite. */
export const CFG_NORM_EPSILON = 1e-8;
/** Relative difference below which a scale counts as 1: Python's math.isclose. */
const CLOSE = 1e-9;

/** The model's velocity for x at noise level sigma, under one of the two prompts. Same length as x. */
export type Velocity = (x: Float32Array, sigma: number, which: "positive" | "negative") => Promise<Float32Array>;

/** How strongly a run follows its prompt. */
export interface Guidance {
  /** Scale of positive over negative; at 1 the negative is never evaluated. */
  readonly cfg: number;
  /** Strength of CFGNorm, which also multiplies the prediction; none when left out. */
  readonly cfgNorm?: number | undefined;
  /** Channels of the latent [1, channels, …]: CFGNorm's norms run over them, one per latent pixel. */
  readonly channels: number;
}

/** Whether a run at this scale evaluates the negative prompt. */
export function usesNegative(cfg: number): boolean {
  return Math.abs(cfg - 1) > CLOSE * Math.max(Math.abs(cfg), 1);
}

/** Denoises with x0 = x − σ·v and D = D₋ + (D₊ − D₋)·cfg on x0, then CFGNorm where asked for. */
export function guidedDenoise(velocity: Velocity, guidance: Guidance): Denoise {
  const { cfg, cfgNorm, channels } = guidance;
  const predict = async (x: Float32Array, sigma: number, which: "positive" | "negative"): Promise<Float32Array> =>
    weightedSum([1, x], [-sigma, await velocity(x, sigma, which)]);
  return async (x, sigma) => {
    const positive = await predict(x, sigma, "positive");
    const guided = usesNegative(cfg) ? guide(positive, await predict(x, sigma, "negative"), cfg) : positive;
    return cfgNorm === undefined ? guided : normalise(guided, positive, { strength: cfgNorm, channels });
  };
}

function guide(positive: Float32Array, negative: Float32Array, cfg: number): Float32Array {
  const scale = f32(cfg);
  const out = new Float32Array(negative.length);
  for (let i = 0; i < out.length; i++) {
    const value = negative[i]!;
    out[i] = value + f32(f32(positive[i]! - value) * scale);
  }
  return out;
}

// Shrinks each latent pixel whose norm grew past that of the positive prediction.
function normalise(
  guided: Float32Array,
  positive: Float32Array,
  { strength, channels }: { strength: number; channels: number },
): Float32Array {
  const pixels = guided.length / channels;
  const guidedNorms = pixelNorms(guided, pixels);
  const scales = pixelNorms(positive, pixels).map((norm, i) =>
    Math.min(norm / f32(guidedNorms[i]! + CFG_NORM_EPSILON), 1),
  );
  const by = f32(strength);
  const out = new Float32Array(guided.length);
  for (let channel = 0; channel < out.length; channel += pixels) {
    for (let pixel = 0; pixel < pixels; pixel++)
      out[channel + pixel] = f32(guided[channel + pixel]! * scales[pixel]!) * by;
  }
  return out;
}

function pixelNorms(latent: Float32Array, pixels: number): Float32Array {
  const sums = new Float32Array(pixels);
  for (let channel = 0; channel < latent.length; channel += pixels) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      const value = latent[channel + pixel]!;
      sums[pixel] = sums[pixel]! + f32(value * value);
    }
  }
  return sums.map(Math.sqrt);
}
