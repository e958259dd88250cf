// The noise that stochastic samplers add on their way, as ComfyUI draws it on the CPU.

import { type BrownianNoise, brownianNoise } from "./brownian.js";
import { noiseStream } from "./noise.js";

/** Where a sampler gets its noise; every value has mean 0 and variance 1. */
export interface SamplerNoise {
  /** Starts a stream; each call of it gives one more latent of independent noise. */
  gaussian(): () => Float32Array;
  /** Starts a Brownian path over the noise levels low..high; noise for the way between any two of them. */
  brownian(low: number, high: number): BrownianNoise;
}

/** Which noise. */
export interface SamplerNoiseOptions {
  /** The seed of the run, 0..2^64 - 1. */
  readonly seed: bigint;
  /** Values of a latent. */
  readonly count: number;
  /**
   * Added to the seed of the gaussian stream. 1 in ComfyUI since December 2025.
   * With 0, its earlier versions, the first noise that a sampler adds equals the noise that the run started from.
   */
  readonly seedOffset: 0 | 1;
}

/** The noise of a run's sampler. The Brownian path takes the seed itself, in every version of ComfyUI. */
export function samplerNoise({ seed, count, seedOffset }: SamplerNoiseOptions): SamplerNoise {
  return {
    gaussian() {
      const draw = noiseStream(seed + BigInt(seedOffset));
      return () => draw(count);
    },
    brownian: (low, high) => brownianNoise({ seed, count, low, high }),
  };
}
