import { describe, expect, test } from "vitest";
import {
  type SamplingInput,
  type SamplingSettings,
  sampleLatent,
  sampleNoise,
  samplingSigmas,
} from "../../src/sampling/driver.js";
import type { Velocity } from "../../src/sampling/guidance.js";
import { randn } from "../../src/sampling/noise/noise.js";
import type { StepEvent } from "../../src/sampling/sampler.js";
import { SAMPLER_NAMES } from "../../src/sampling/sampling-names.js";
import { float32 } from "../../src/std/tensor.js";
import { ramp, toyVelocity } from "./toy.js";

const SHAPE = [1, 2, 3, 5];
const COUNT = 30;
const SETTINGS: SamplingSettings = {
  sampler: "euler",
  scheduler: "simple",
  steps: 4,
  denoise: 1,
  shift: 3,
  cfg: 1,
  seed: 5n,
};
const INPUT: SamplingInput = { latent: float32(SHAPE, ramp(COUNT, 7, 30)), mean: [0.5, -0.25], std: [2, 4] };
const toy = toyVelocity(COUNT);

/** A velocity that remembers every x that it was asked about. */
function watched(seen: Float32Array[]): Velocity {
  return async (x, sigma, which) => {
    seen.push(x.slice());
    return toy(x, sigma, which);
  };
}

describe("sampleNoise", () => {
  const { latent: _, ...scale } = INPUT;
  const noise = float32(SHAPE, randn(5, COUNT));

  test.each([
    ["without guidance", SETTINGS],
    ["with guidance", { ...SETTINGS, cfg: 2.5, cfgNorm: 1 }],
  ])("gives the samples of the seed whose noise it is given: %s", async (_, settings) => {
    const { cfg, cfgNorm } = settings as SamplingSettings;
    const given = { noise, sigmas: samplingSigmas(settings), cfg, cfgNorm };
    expect(await sampleNoise(toy, given, scale)).toEqual(await sampleLatent(toy, settings, INPUT));
  });

  test("starts from the noise as it is, wherever the levels begin", async () => {
    const seen: Float32Array[] = [];
    await sampleNoise(watched(seen), { noise, sigmas: Float32Array.of(0.5, 0), cfg: 1 }, scale);
    expect(seen[0]).toEqual(noise.data);
  });
});

describe("sampleLatent", () => {
  test("starts from the seed's noise alone at denoise 1, whatever the latent holds", async () => {
    const seen: Float32Array[] = [];
    await sampleLatent(watched(seen), SETTINGS, INPUT);
    expect(seen[0]).toEqual(randn(5, COUNT));
  });

  test("mixes noise into the normalised latent at a lower denoise", async () => {
    const seen: Float32Array[] = [];
    const settings = { ...SETTINGS, denoise: 0.5 };
    const sigma = samplingSigmas(settings)[0]!;
    await sampleLatent(watched(seen), settings, INPUT);
    const second = (INPUT.latent.data[15]! - -0.25) / 4;
    expect(seen[0]![15]).toBeCloseTo(sigma * randn(5, COUNT)[15]! + (1 - sigma) * second, 6);
  });

  test("leaves an empty latent of zeros as it is instead of normalising it", async () => {
    const seen: Float32Array[] = [];
    const settings = { ...SETTINGS, denoise: 0.5 };
    const sigma = samplingSigmas(settings)[0]!;
    await sampleLatent(watched(seen), settings, { ...INPUT, latent: float32(SHAPE) });
    expect(seen[0]![15]).toBe(Math.fround(sigma * randn(5, COUNT)[15]!));
  });

  test("returns the latent untouched at denoise 0", async () => {
    expect(await sampleLatent(toy, { ...SETTINGS, denoise: 0 }, INPUT)).toEqual(INPUT.latent);
  });

  test.each(SAMPLER_NAMES)("%s reports every step once, in order", async (sampler) => {
    const events: StepEvent[] = [];
    await sampleLatent(toy, { ...SETTINGS, sampler }, { ...INPUT, onStep: (event) => events.push(event) });
    expect(events.map(({ step, total }) => [step, total])).toEqual([
      [1, 4],
      [2, 4],
      [3, 4],
      [4, 4],
    ]);
  });

  test.each(SAMPLER_NAMES)("%s leaves the latent and the model's answers as they were", async (sampler) => {
    const answers: (readonly [Float32Array, Float32Array])[] = [];
    const before = INPUT.latent.data.slice();
    const velocity: Velocity = async (x, sigma, which) => {
      const answer = await toy(x, sigma, which);
      answers.push([answer, answer.slice()]);
      return answer;
    };
    await sampleLatent(velocity, { ...SETTINGS, sampler }, INPUT);
    expect(INPUT.latent.data).toEqual(before);
    for (const [answer, copy] of answers) expect(answer).toEqual(copy);
  });

  test("stops between two steps when its signal is aborted, with the signal's reason", async () => {
    const abort = new AbortController();
    let steps = 0;
    const onStep = ({ step }: StepEvent): void => {
      steps = step;
      if (step === 2) abort.abort(new Error("enough"));
    };
    await expect(sampleLatent(toy, SETTINGS, { ...INPUT, onStep, signal: abort.signal })).rejects.toThrow("enough");
    expect(steps).toBe(2);
  });

  test.each([NaN, Infinity])("names the step at which the model gave %d", async (value) => {
    const velocity: Velocity = async (x, sigma, which) => (sigma === 0.75 ? x.with(3, value) : toy(x, sigma, which));
    const error = { code: "QEDIT_E_BAD_OUTPUT", message: expect.stringContaining("step 3 of 4") };
    await expect(sampleLatent(velocity, SETTINGS, INPUT)).rejects.toMatchObject(error);
  });

  test.each([-1n, 2n ** 64n])("refuses seed %d", async (seed) => {
    await expect(sampleLatent(toy, { ...SETTINGS, seed }, INPUT)).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
  });

  test("refuses one step of uni_pc, which would give noise", async () => {
    await expect(sampleLatent(toy, { ...SETTINGS, sampler: "uni_pc", steps: 1 }, INPUT)).rejects.toMatchObject({
      code: "QEDIT_E_USAGE",
    });
  });
});

describe("samplingSigmas", () => {
  test("gives dpm_2 a schedule of one step more without its next-to-last level", () => {
    const longer = samplingSigmas({ ...SETTINGS, steps: 5 });
    expect(Array.from(samplingSigmas({ ...SETTINGS, sampler: "dpm_2" }))).toEqual([...longer.slice(0, 4), 0]);
  });
});
