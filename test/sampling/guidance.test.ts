import { describe, expect, test } from "vitest";
import { guidedDenoise, usesNegative, type Velocity } from "../../src/sampling/guidance.js";

/** A velocity that leads from x = 0 at sigma 1 to the given guesses. */
function towards(guesses: { positive: number[]; negative: number[] }, asked: string[] = []): Velocity {
  return async (_x, _sigma, which) => {
    asked.push(which);
    return Float32Array.from(guesses[which], (guess) => -guess);
  };
}

// Two channels of three pixels: pixel norms of the positive guess are 5, 1 and 0.
const POSITIVE = [3, 1, 0, 4, 0, 0];
const X = new Float32Array(6);

describe("guidedDenoise", () => {
  test("takes x minus sigma times velocity as the guess", async () => {
    const denoise = guidedDenoise(async () => new Float32Array([2, 4]), { cfg: 1, channels: 2 });
    expect(Array.from(await denoise(new Float32Array([1, 1]), 0.5))).toEqual([0, -1]);
  });

  test("goes from the negative guess towards the positive and past it", async () => {
    const denoise = guidedDenoise(towards({ positive: [3, 1], negative: [1, 2] }), { cfg: 2.5, channels: 2 });
    expect(Array.from(await denoise(new Float32Array(2), 1))).toEqual([6, -0.5]);
  });

  test.each([1, 1 + 1e-12])("never asks for the negative at cfg %d", async (cfg) => {
    const asked: string[] = [];
    await guidedDenoise(towards({ positive: POSITIVE, negative: POSITIVE }, asked), { cfg, channels: 2 })(X, 1);
    expect(asked).toEqual(["positive"]);
    expect(usesNegative(cfg)).toBe(false);
  });

  test("CFGNorm shrinks a pixel that grew to the norm of its positive guess, and leaves one that shrank", async () => {
    // with a negative of 0 the guess doubles; the second pixel's negative takes it from 1 to 0.5
    const guesses = { positive: POSITIVE, negative: [0, 1.5, 0, 0, 0, 0] };
    const denoised = await guidedDenoise(towards(guesses), { cfg: 2, cfgNorm: 1, channels: 2 })(X, 1);
    expect(Array.from(denoised)).toEqual([3, 0.5, 0, 4, 0, 0]);
  });

  test("CFGNorm multiplies by its strength, also at cfg 1", async () => {
    const denoised = await guidedDenoise(towards({ positive: POSITIVE, negative: POSITIVE }), {
      cfg: 1,
      cfgNorm: 0.5,
      channels: 2,
    })(X, 1);
    expect(Array.from(denoised)).toEqual([1.5, 0.5, 0, 2, 0, 0]);
  });
});
