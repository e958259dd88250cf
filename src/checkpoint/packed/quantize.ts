// Weights rounded to blocks of whole numbers with a scale each, to nearest: what qedit writes itself.
import { fromFloat16, toFloat16 } from "../../std/half-floats.js";
import { halves } from "./repack.js";

/** How weights are rounded. */
export interface Rounding {
  readonly bits: 4 | 8;
  /** Columns that share a scale. */
  readonly block: 32 | 64 | 128;
}

/** Rows of rounded weights, and how far they are from what they were. */
export interface Rounded {
  /** U8, as PackedParts has them. */
  readonly codes: Uint8Array;
  /** F16, one for each block. */
  readonly scales: Uint16Array;
  /** Sums over all weights, for a root mean square of both. */
  readonly errorSquares: number;
  readonly squares: number;
}

/**
 * Rounds rows whose length is a multiple of the block. The largest number of a block has the lowest code, -8 or -128 times a scale of either sign, so that all
 * codes are used (as llama.cpp's quantize_row_q4_0_ref). Scales are rounded to float16 first, and numbers to the nearest multiple of that.
 */
export function rounded(values: Float32Array, { bits, block }: Rounding): Rounded {
  const lowest = -(2 ** (bits - 1));
  const count = values.length / block;
  const exact = new Float32Array(count);
  for (let index = 0; index < count; index += 1) {
    let largest = 0;
    for (let at = index * block; at < (index + 1) * block; at += 1)
      if (Math.abs(values[at]!) > Math.abs(largest)) largest = values[at]!;
    exact[index] = largest / lowest;
  }
  const scales = toFloat16(exact);
  const stored = fromFloat16(scales);
  const codes = new Uint8Array(values.length);
  let [errorSquares, squares] = [0, 0];
  for (let at = 0; at < values.length; at += 1) {
    const scale = stored[Math.floor(at / block)]!;
    const value = values[at]!;
    const code = scale === 0 ? 0 : Math.min(Math.max(Math.round(value / scale), lowest), -lowest - 1);
    codes[at] = code - lowest;
    errorSquares += (value - code * scale) ** 2;
    squares += value * value;
  }
  return { codes: bits === 4 ? halves(codes) : codes, scales, errorSquares, squares };
}
