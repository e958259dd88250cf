import { describe, expect, test } from "vitest";
import { type SamplingSettings, sampleLatent } from "../../src/sampling/driver.js";
import { samplerNamed } from "../../src/sampling/samplers.js";
import { SAMPLER_NAMES } from "../../src/sampling/sampling-names.js";
import { float32 } from "../../src/std/tensor.js";
import { golden, maxDifference, unpacked } from "./golden.js";
import { TOLERANCE } from "./tolerances.js";
import { ramp, toyVelocity } from "./toy.js";
import { MEAN, STD } from "./wan-latents.js";

interface Case extends Omit<SamplingSettings, "cfgNorm" | "seed"> {
  norm: number | null;
  samples: string;
}

interface LaterCase extends Case {
  options?: { s_noise?: number; s_noise_end?: number; noise_clip_std?: number };
}

const { cases, seed, shape } = golden<Case, { seed: string; shape: number[] }>("runs");
const later = golden<LaterCase, { seed: string }>("later-runs");
const COUNT = 16 * 4 * 6;

describe("samplers", () => {
  test("have a golden run each", () => {
    const run = [...cases, ...later.cases].map(({ sampler }) => sampler);
    expect(new Set(run)).toEqual(new Set(SAMPLER_NAMES));
  });

  test.each(cases)(
    "$sampler reaches ComfyUI's latent in $steps steps of $scheduler, shift $shift, denoise $denoise, cfg $cfg, norm $norm",
    async ({ norm, samples, ...settings }) => {
      // the golden version of ComfyUI starts the samplers' noise from the seed itself
      const own = {
        ...settings,
        seed: BigInt(seed),
        noiseSeedOffset: 0,
        ...(norm !== null && { cfgNorm: norm }),
      } as const;
      const latent = float32(shape, ramp(COUNT, 15485863, 2000));
      const out = await sampleLatent(toyVelocity(COUNT), own, { latent, mean: MEAN, std: STD });
      expect(out.shape).toEqual(shape);
      expect(maxDifference(out.data, unpacked(samples))).toBeLessThanOrEqual(TOLERANCE.run);
    },
  );

  test.each(later.cases)(
    "$sampler reaches later ComfyUI's latent in $steps steps of $scheduler, shift $shift, denoise $denoise, $options",
    async ({ norm: _, samples, options, ...settings }) => {
      const noise = { scale: options?.s_noise, endScale: options?.s_noise_end, clip: options?.noise_clip_std };
      const own = { ...settings, seed: BigInt(later.seed), lcm: noise };
      const latent = float32(shape, ramp(COUNT, 15485863, 2000));
      const out = await sampleLatent(toyVelocity(COUNT), own, { latent, mean: MEAN, std: STD });
      expect(maxDifference(out.data, unpacked(samples))).toBeLessThanOrEqual(TOLERANCE.run);
    },
  );

  test("answer an unknown name with all names and the nearest one", () => {
    const error = {
      code: "QEDIT_E_USAGE",
      message: expect.stringContaining("euler, heun"),
      hint: 'Did you mean "dpmpp_2m"?',
    };
    expect(() => samplerNamed("dpmp_2m")).toThrow(expect.objectContaining(error));
  });

  test("offer no guess for a name that is far from all", () => {
    expect(() => samplerNamed("constructor")).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE", hint: undefined }),
    );
  });
});
