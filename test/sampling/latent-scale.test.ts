// The scales of latents, and the way back without a rounding.
import { describe, expect, test } from "vitest";
import { latentStatistics } from "../../src/models/vaes.js";
import { beforeDenormalising, denormaliseLatent } from "../../src/sampling/latent-scale.js";
import { randn } from "../../src/sampling/noise/noise.js";

const CHANNELS = 16;
const STATISTICS = latentStatistics(CHANNELS);

// Latents about zero and about the means, where digits cancel, small and large ones.
function latents(): Float32Array[] {
  const drawn = randn(3n, CHANNELS * 2000);
  const aboutMean = drawn.map((value, i) => STATISTICS.mean[Math.floor(i / 2000)]! + value * 1e-4);
  return [drawn, drawn.map((value) => value * 1e-6), drawn.map((value) => value * 20), aboutMean];
}

describe("the way back", () => {
  test("from a latent of the VAE gives one that becomes it, bit for bit", () => {
    for (const values of latents()) {
      const restored = denormaliseLatent(values, STATISTICS);
      expect(denormaliseLatent(beforeDenormalising(restored, STATISTICS), STATISTICS)).toEqual(restored);
    }
  });

  test("is near where there is none", () => {
    const values = randn(5n, CHANNELS * 100);
    const found = denormaliseLatent(beforeDenormalising(values, STATISTICS), STATISTICS);
    expect(Math.max(...found.map((value, i) => Math.abs(value - values[i]!)))).toBeLessThan(1e-6);
  });
});
