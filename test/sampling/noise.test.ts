import { describe, expect, test } from "vitest";
import { brownianNoise } from "../../src/sampling/noise/brownian.js";
import { noiseStream, randn } from "../../src/sampling/noise/noise.js";
import { samplerNoise } from "../../src/sampling/noise/sampler-noise.js";
import { seedSequence } from "../../src/sampling/noise/seed-sequence.js";
import { golden, maxDifference, unpacked } from "./golden.js";
import { TOLERANCE } from "./tolerances.js";

interface Draws {
  seed: string;
  counts: number[];
  last: string;
}
interface Path {
  seed: string;
  sigmas: number[];
  noise: string[];
}

describe("randn", () => {
  test("gives the bits of torch.randn for seed 42 on a 1024 by 1024 picture", () => {
    const first = [
      1.9269152879714966, 1.4872840642929077, 0.9007171988487244, -2.1055209636688232, 0.6784184575080872,
      -1.2345448732376099, -0.04306747764348984, -1.6046669483184814,
    ];
    expect(Array.from(randn(42, 16 * 128 * 128).subarray(0, 8))).toEqual(first);
  });

  test.each(golden<Draws>("noise").cases)(
    "continues the stream of seed $seed after draws of $counts as torch.Generator does",
    ({ seed, counts, last }) => {
      const draw = noiseStream(BigInt(seed));
      const drawn = counts.map((count) => draw(count));
      expect(maxDifference(drawn.at(-1)!, unpacked(last))).toBe(TOLERANCE.exact);
    },
  );

  test("looks at the low 32 bits of the seed only", () => {
    expect(randn(2n ** 32n + 5n, 32)).toEqual(randn(5, 32));
  });
});

describe("samplerNoise", () => {
  test("starts from the next seed, so that it differs from the initial noise", () => {
    expect(samplerNoise({ seed: 6n, count: 20, seedOffset: 1 }).gaussian()()).toEqual(randn(7, 20));
  });

  test("repeats the initial noise with offset 0, as ComfyUI did until December 2025", () => {
    expect(samplerNoise({ seed: 6n, count: 20, seedOffset: 0 }).gaussian()()).toEqual(randn(6, 20));
  });
});

describe("seedSequence", () => {
  test("gives numpy's state for entropy 0 and a pool of 4", () => {
    expect(Array.from(seedSequence({ entropy: 0n, spawnKey: [], poolSize: 4 }, 2))).toEqual(REFERENCE_STATE);
  });
});

describe("brownianNoise", () => {
  test.each(golden<Path>("brownian").cases)(
    "gives torchsde's increments for seed $seed over $sigmas",
    ({ seed, sigmas, noise }) => {
      const levels = sigmas.map(Math.fround);
      const path = brownianNoise({
        seed: BigInt(seed),
        count: 24,
        low: Math.min(...levels),
        high: Math.max(...levels),
      });
      noise.forEach((expected, i) => {
        expect(maxDifference(path(levels[i]!, levels[i + 1]!), unpacked(expected))).toBe(TOLERANCE.exact);
      });
    },
  );

  test("has variance 1 for a stretch of any length", () => {
    const path = brownianNoise({ seed: 1n, count: 4096, low: 0.01, high: 1 });
    const variance = path(0.5, 0.03).reduce((sum, value) => sum + value * value, 0) / 4096;
    expect(variance).toBeGreaterThan(0.9);
    expect(variance).toBeLessThan(1.1);
  });
});

const REFERENCE_STATE = [2968811710, 3677149159];
