// A whole sampling run, from a VAE's latent to a VAE's latent: ComfyUI's KSampler node on a rectified-flow model.
// Pure: the model is a function, and nothing is read or written.

import { param, QeditError } from "../std/errors.js";
import { float32, type Tensor } from "../std/tensor.js";
import { firstNonFinite, weightedSum } from "./float32.js";
import { guidedDenoise, type Velocity } from "./guidance.js";
import { denormaliseLatent, normaliseLatent } from "./latent-scale.js";
import { randn } from "./noise/noise.js";
import { samplerNoise } from "./noise/sampler-noise.js";
import type { Denoise, LcmNoise, StepEvent } from "./sampler.js";
import { euler } from "./samplers/euler.js";
import { samplerNamed } from "./samplers.js";
import { runSigmas } from "./schedules.js";
import { type SigmaTable, sigmaTable } from "./sigma-table.js";

const f32 = Math.fround;
/** Default of SamplingSettings.noiseSeedOffset. */
export const NOISE_SEED_OFFSET = 1;

const MAX_SEED = 2n ** 64n - 1n;

/** The numbers of a KSampler node, and of the nodes that patch its model. */
export interface SamplingSettings {
  readonly sampler: string;
  readonly scheduler: string;
  readonly steps: number;
  /** Share of the schedule that is run, 0..1; 1 starts from pure noise. */
  readonly denoise: number;
  /** Of ModelSamplingAuraFlow. */
  readonly shift: number;
  /** The noise levels, falling from 1 at most to 0, in place of scheduler, steps, shift and denoise. */
  readonly sigmas?: readonly number[] | undefined;
  readonly cfg: number;
  /** Strength of CFGNorm; none when left out. */
  readonly cfgNorm?: number | undefined;
  /** 0..2^64 - 1. */
  readonly seed: bigint;
  /** What stochastic samplers add to the seed, see SamplerNoiseOptions; 1 when left out. */
  readonly noiseSeedOffset?: 0 | 1 | undefined;
  /** Of the sampler lcm; no other reads it. */
  readonly lcm?: LcmNoise | undefined;
}

/** What the run works on. */
export interface SamplingInput {
  /** [1, channels, …] as the VAE gave it. All zeros stand for no picture, and are not normalised. */
  readonly latent: Tensor<"float32">;
  /** Of each channel of the VAE's latents. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Called after each step with the clean latent that the model predicted last, normalised. */
  readonly onStep?: ((event: StepEvent, denoised: Float32Array) => void) | undefined;
  /** Checked before each step; its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** The noise levels of a run, falling, float32; empty when denoise is 0. Throws QEDIT_E_USAGE for settings that no run can have. */
export function samplingSigmas(settings: SamplingSettings): Float32Array {
  return levels(settings, sigmaTable(settings.shift));
}

/**
 * Samples a latent of the shape of the given one, in the VAE's scale.
 * Throws QEDIT_E_USAGE for settings that no run can have, and QEDIT_E_BAD_OUTPUT as soon as the model's output is not finite.
 */
export async function sampleLatent(
  velocity: Velocity,
  settings: SamplingSettings,
  input: SamplingInput,
): Promise<Tensor<"float32">> {
  const { latent, signal } = input;
  const { seed, cfg, cfgNorm, lcm } = settings;
  const table = sigmaTable(settings.shift);
  const sigmas = levels(settings, table);
  checkSeed(seed);
  const channels = checkedChannels(input);
  if (sigmas.length === 0) return latent;

  const count = latent.data.length;
  const x = noisedLatent(input, { seed, first: sigmas[0]! });
  const { denoise, onStep } = checkedSteps(
    guidedDenoise(velocity, { cfg, cfgNorm, channels }),
    sigmas.length - 1,
    input.onStep,
  );
  const noise = samplerNoise({ seed, count, seedOffset: settings.noiseSeedOffset ?? NOISE_SEED_OFFSET });
  const run = { sigmas, table, noise, lcm, onStep, signal };
  const sampled = await samplerNamed(settings.sampler).sample(x, denoise, run);
  return float32(latent.shape, sampledLatent(sampled, sigmas, input));
}

/** A run whose noise and noise levels are given, as an exported sampler has it. */
export interface NoiseRun extends Pick<SamplingSettings, "cfg" | "cfgNorm"> {
  /** [1, channels, …], normalised: what the first step starts from, as it is. */
  readonly noise: Tensor<"float32">;
  /** Falling, from 1 at most to 0 at least: one more than steps. */
  readonly sigmas: Float32Array;
}

/** Samples given noise by Euler's method over given levels; the result is in the VAE's scale. Throws as sampleLatent. */
export async function sampleNoise(
  velocity: Velocity,
  { noise, sigmas, cfg, cfgNorm }: NoiseRun,
  { signal, ...input }: Omit<SamplingInput, "latent">,
): Promise<Tensor<"float32">> {
  const channels = checkedChannels({ ...input, latent: noise });
  const { denoise, onStep } = checkedSteps(
    guidedDenoise(velocity, { cfg, cfgNorm, channels }),
    sigmas.length - 1,
    input.onStep,
  );
  const sampled = await euler(noise.data, denoise, { sigmas, onStep, signal });
  return float32(noise.shape, sampledLatent(sampled, sigmas, input));
}

/** What a run begins with: noise, and at a first noise level below 1 the rest of the latent, normalised. Throws QEDIT_E_USAGE for a seed that is none. */
export function noisedLatent(
  input: Pick<SamplingInput, "latent" | "mean" | "std">,
  { seed, first }: { readonly seed: bigint; readonly first: number },
): Float32Array {
  checkSeed(seed);
  const { data } = input.latent;
  const start = data.some((value) => value !== 0) ? normaliseLatent(data, input) : data;
  return weightedSum([first, randn(seed, data.length)], [f32(1 - first), start]);
}

function levels({ sampler, scheduler, steps, denoise, sigmas }: SamplingSettings, table: SigmaTable): Float32Array {
  if (sigmas !== undefined) return Float32Array.from(sigmas);
  return runSigmas(table, { scheduler, steps, denoise, spareStep: samplerNamed(sampler).spareStep });
}

function checkSeed(seed: bigint): void {
  if (seed >= 0n && seed <= MAX_SEED) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use seed ${seed}: a seed is a whole number from 0 to ${MAX_SEED}`);
}

function checkedChannels({ latent, mean, std }: SamplingInput): number {
  const [batch, channels] = latent.shape;
  if (batch !== 1 || channels !== mean.length || channels !== std.length) {
    throw new Error(
      `internal: latent [${latent.shape.join(", ")}] with ${mean.length} means and ${std.length} deviations`,
    );
  }
  return channels;
}

// Counts the steps, to say at which one the model failed.
function checkedSteps(
  denoise: Denoise,
  total: number,
  onStep: SamplingInput["onStep"],
): { denoise: Denoise; onStep: (event: StepEvent) => void } {
  let step = 1;
  let last = new Float32Array(0);
  return {
    async denoise(x, sigma) {
      const denoised = await denoise(x, sigma);
      if (firstNonFinite(denoised) < 0) return (last = denoised as Float32Array<ArrayBuffer>);
      throw new QeditError(
        "QEDIT_E_BAD_OUTPUT",
        `The model gave values that are not finite at step ${step} of ${total} (sigma ${sigma})`,
        {
          hint: `Model files that are not as published do this: compare their SHA-256 by \`qedit models verify\`. On a GPU, try ${param("dtype", "float32")}`,
        },
      );
    },
    onStep(event) {
      step = event.step + 1;
      onStep?.(event, last);
    },
  };
}

// What is left of the noise at the last level is taken out.
function sampledLatent(
  sampled: Float32Array,
  sigmas: Float32Array,
  { mean, std }: Pick<SamplingInput, "mean" | "std">,
): Float32Array {
  const remaining = f32(1 - sigmas[sigmas.length - 1]!);
  return denormaliseLatent(
    sampled.map((value) => value / remaining),
    { mean, std },
  );
}
