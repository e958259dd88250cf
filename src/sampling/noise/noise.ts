// Normal noise with the bits of torch.randn on the CPU (float32, AVX2 and AVX-512 builds; torch 2.13).
// Logarithm, sine and cosine are the single-precision polynomials of Cephes, each step rounded to float32.

import { mersenneTwister, type RandomBits } from "./mersenne-twister.js";

const BLOCK = 16;
const HALF = 8;
const f32 = Math.fround;
const TWO_PI = f32(2 * Math.PI);

/** Draws `count` more values of a stream of standard normal noise. */
export type Noise = (count: number) => Float32Array;

/** The first `count` values of torch.randn on a generator that was just seeded. Only the low 32 bits of the seed count. */
export function randn(seed: number | bigint, count: number): Float32Array {
  return noiseStream(seed)(count);
}

/** A stream of noise as torch.Generator gives it: one seed, any number of draws. */
export function noiseStream(seed: number | bigint): Noise {
  const bits = mersenneTwister(seed);
  const single = singleNormal(bits);
  return (count) => (count < BLOCK ? Float32Array.from({ length: count }, single) : blocks(bits, count));
}

// At least 16 values: uniforms first, then each block of 16 becomes 8 pairs of normals.
function blocks(bits: RandomBits, count: number): Float32Array {
  const values = new Float32Array(count);
  fillUniform(bits, values, 0);
  for (let start = 0; start + BLOCK <= count; start += BLOCK) toNormal(values, start);
  if (count % BLOCK !== 0) {
    // torch draws the last 16 slots anew, over values that were normal already
    fillUniform(bits, values, count - BLOCK);
    toNormal(values, count - BLOCK);
  }
  return values;
}

function fillUniform(bits: RandomBits, values: Float32Array, start: number): void {
  for (let i = start; i < values.length; i++) values[i] = (bits() & 0xffffff) * 2 ** -24;
}

// Box-Muller on values[start..start+15]: slot j gives the radius, slot j + 8 the angle.
function toNormal(values: Float32Array, start: number): void {
  for (let j = start; j < start + HALF; j++) {
    const radius = f32(Math.sqrt(f32(-2 * logarithm(f32(1 - values[j]!)))));
    toCartesian(values, j, radius, f32(TWO_PI * values[j + HALF]!));
  }
}

// ln x for x = n / 2^24, n = 1..2^24: all that 1 − uniform can be
function logarithm(x: number): number {
  const n = x * 2 ** 24;
  const bits = 32 - Math.clz32(n);
  let exponent = bits - 24;
  let m = n / (1 << bits);
  if (m < f32(Math.SQRT1_2)) {
    m = f32(m - 1 + m);
    exponent -= 1;
  } else {
    m = f32(m - 1);
  }
  const z = f32(m * m);
  let y = LOG_LEADING;
  for (const coefficient of LOG) y = f32(y * m + coefficient);
  y = f32(f32(y * m) * z + f32(exponent * LOG_2_LOW));
  m = f32(m + f32(y - f32(0.5 * z)));
  return f32(exponent * LOG_2_HIGH + m);
}

const LOG_LEADING = f32(7.0376836292e-2);
const LOG = new Float32Array([
  -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
  -2.4999993993e-1, 3.3333331174e-1,
]);
const LOG_2_LOW = f32(-2.1219444e-4);
const LOG_2_HIGH = f32(0.693359375);

// values[j] = radius · cos(angle), values[j + 8] = radius · sin(angle), for an angle in 0..2π
function toCartesian(values: Float32Array, j: number, radius: number, angle: number): void {
  const octant = (Math.trunc(f32(angle * FOUR_OVER_PI)) + 1) & ~1;
  let x = f32(octant * QUARTER_PI_HIGH + angle);
  x = f32(octant * QUARTER_PI_MIDDLE + x);
  x = f32(octant * QUARTER_PI_LOW + x);
  const z = f32(x * x);
  let even = f32(COS_2 * z + COS_1);
  even = f32(f32(even * z + COS_0) * z);
  even = f32(f32(even * z + f32(-0.5 * z)) + 1);
  let odd = f32(SIN_2 * z + SIN_1);
  odd = f32(f32(odd * z + SIN_0) * z);
  odd = f32(odd * x + x);
  const swapped = (octant & 2) !== 0;
  const cosine = (swapped ? odd : even) * (~(octant - 2) & 4 ? -1 : 1);
  const sine = (swapped ? even : odd) * (octant & 4 ? -1 : 1);
  values[j] = radius * cosine;
  values[j + HALF] = radius * sine;
}

const FOUR_OVER_PI = f32(1.27323954473516);
const QUARTER_PI_HIGH = f32(-0.78515625);
const QUARTER_PI_MIDDLE = f32(-2.4187564849853515625e-4);
const QUARTER_PI_LOW = f32(-3.77489497744594108e-8);
const COS_2 = f32(2.443315711809948e-5);
const COS_1 = f32(-1.388731625493765e-3);
const COS_0 = f32(4.166664568298827e-2);
const SIN_2 = f32(-1.9515295891e-4);
const SIN_1 = f32(8.3321608736e-3);
const SIN_0 = f32(-1.6666654611e-1);

// Fewer than 16 values: torch takes the double-precision path, one value at a time, and keeps the second of each pair for the next call.
function singleNormal(bits: RandomBits): () => number {
  const uniform = (): number => {
    const high = bits() & 0x1fffff;
    return (high * 2 ** 32 + bits()) * 2 ** -53;
  };
  let kept: number | undefined;
  return () => {
    if (kept !== undefined) {
      const value = kept;
      kept = undefined;
      return value;
    }
    const angle = 2 * Math.PI * uniform();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform()));
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
