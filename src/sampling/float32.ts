// Arithmetic on whole latents with the roundings of torch's float32 tensors. Loops, since map and every make an object of each number.

const f32 = Math.fround;

/** A float32 coefficient and the vector that it multiplies. */
export type Term = readonly [coefficient: number, vector: Float32Array];

/** Σ coefficient · vector from left to right; every product and every partial sum is rounded to float32, as in a chain of torch operators. */
export function weightedSum(first: Term, ...others: readonly Term[]): Float32Array {
  const scale = f32(first[0]);
  const out = new Float32Array(first[1].length);
  for (let i = 0; i < out.length; i++) out[i] = scale * first[1][i]!;
  for (const [coefficient, vector] of others) {
    const factor = f32(coefficient);
    for (let i = 0; i < out.length; i++) out[i] = out[i]! + f32(factor * vector[i]!);
  }
  return out;
}

/** (a − b) / divisor, with the difference rounded to float32 before it is divided. */
export function differenceOver(a: Float32Array, b: Float32Array, divisor: number): Float32Array {
  const by = f32(divisor);
  const out = new Float32Array(a.length);
  for (let i = 0; i < out.length; i++) out[i] = f32(a[i]! - b[i]!) / by;
  return out;
}

/** The place of the first value that is NaN or infinite; -1 when there is none. */
export function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i]!)) return i;
  return -1;
}
