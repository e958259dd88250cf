// What a sampler is: it carries noise to a picture through falling noise levels.
// x holds the float32 values of a latent; samplers treat each value alone, so its shape does not matter to them.

import type { SamplerNoise } from "./noise/sampler-noise.js";
import type { SigmaTable } from "./sigma-table.js";

/** The model's prediction of the clean latent x0, for x at noise level sigma. */
export type Denoise = (x: Float32Array, sigma: number) => Promise<Float32Array>;

/** Carries x from the first noise level to the last. May call `denoise` more than once a step; never changes x in place. */
export type Sampler = (x: Float32Array, denoise: Denoise, run: SamplerRun) => Promise<Float32Array>;

/** Reported after each step. */
export interface StepEvent {
  /** Steps that are done, 1..total. */
  readonly step: number;
  readonly total: number;
  /** The noise level that the step started from. */
  readonly sigma: number;
}

/** What is changed about the noise that the sampler lcm adds, as in ComfyUI's SamplerLCM node. */
export interface LcmNoise {
  /** Factor of the noise; 1 when left out. */
  readonly scale?: number | undefined;
  /** Factor at the last step, approached in equal parts; as at the first when left out. */
  readonly endScale?: number | undefined;
  /** Largest noise, in standard deviations of what was drawn; 0 or left out: as drawn. */
  readonly clip?: number | undefined;
}

/** What one run gives its sampler. */
export interface SamplerRun {
  /** Falling levels [steps + 1], float32. */
  readonly sigmas: Float32Array;
  readonly table: SigmaTable;
  readonly noise: SamplerNoise;
  readonly lcm?: LcmNoise | undefined;
  readonly onStep?: ((event: StepEvent) => void) | undefined;
  /** Checked before each step; its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** One move between two neighbouring noise levels. */
export interface Step {
  /** 0 for the first. */
  readonly index: number;
  readonly sigma: number;
  readonly next: number;
}

/** The steps of a run, in order: stops at an aborted signal, and reports each step when the next one is asked for. */
export function* stepsOf({
  sigmas,
  onStep,
  signal,
}: Pick<SamplerRun, "sigmas" | "onStep" | "signal">): Generator<Step> {
  const total = sigmas.length - 1;
  for (let index = 0; index < total; index++) {
    signal?.throwIfAborted();
    const sigma = sigmas[index]!;
    yield { index, sigma, next: sigmas[index + 1]! };
    onStep?.({ step: index + 1, total, sigma });
  }
}

/** The share of the run at which a first level of 1 is put instead, where ln((1 − σ)/σ) would be infinite (ComfyUI's offset). */
const FIRST_PERCENT = 1e-4;

/** The run with a first level just below 1, for samplers that need the signal-to-noise ratio of every level. */
export function offsetFirstSigma(run: SamplerRun): SamplerRun {
  const { sigmas, table } = run;
  if (!(sigmas[0]! >= 1)) return run;
  return { ...run, sigmas: sigmas.map((sigma, i) => (i === 0 ? table.percentToSigma(FIRST_PERCENT) : sigma)) };
}
