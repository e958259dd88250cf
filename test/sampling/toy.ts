// The toy model of the golden runs: sums, products and quotients of float32 only, so that it rounds as its Python twin does.

import type { Velocity } from "../../src/sampling/guidance.js";

const f32 = Math.fround;

/** Values in -1..1 that any language can redo. */
export function ramp(count: number, factor: number, modulus: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => ((i * factor) % modulus) / (modulus / 2) - 1);
}

/** A velocity towards fixed targets, one for each prompt. */
export function toyVelocity(count: number): Velocity {
  const targets = { positive: ramp(count, 7919, 1000), negative: ramp(count, 104729, 1250) };
  const gain = ramp(count, 1299709, 640);
  return async (x, sigma, which) => {
    const fade = f32(1 - f32(0.5 * sigma));
    return x.map((value, i) => {
      const soft = f32(value / f32(1 + Math.abs(value)));
      const denoised = f32(targets[which][i]! + f32(f32(gain[i]! * soft) * fade));
      return f32(value - denoised) / sigma;
    });
  };
}
