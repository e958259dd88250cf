// The parity table: every comparison with a reference is a row, printed at the end by `npm run parity`.
import { expect } from "vitest";
import type { Tensor } from "../../src/std/tensor.js";

/** Largest allowed error, as a part of the output's largest magnitude. */
export const TOLERANCE = {
  /** One network in float32: sums run in another order than the reference's (design.md, numbers that must hold). */
  network: 1e-4,
  /** Four sampling steps feed each network's error to the next (design.md). */
  edit: 1e-3,
} as const;

/** How the weights of each fixture are stored. */
const STORED: Readonly<Record<string, string>> = {
  vae: "bf16",
  "vae-fp32": "fp32",
  "vae-other": "fp32",
  "text-encoder": "scaled fp8",
  "text-encoder-comfy-quant": "comfy_quant fp8",
  "text-encoder-fp8": "fp8",
  "text-encoder-bf16": "bf16",
  "text-encoder-fp32": "fp32",
  "text-encoder-no-vision": "bf16",
  transformer: "fp8",
  "transformer-bf16": "bf16",
  "transformer-fp32": "fp32",
  "transformer-scaled-fp8": "scaled fp8",
};

interface Row {
  readonly network: string;
  readonly weights: string;
  readonly tap: string;
  readonly error: number;
  readonly tolerance: number;
}

const rows: Row[] = [];

/** Compares a result with the reference's, notes the row, and fails when it is further off than the tolerance. */
export function expectParity(
  place: Pick<Row, "network" | "weights" | "tap">,
  [actual, expected]: readonly [Tensor, Tensor],
  tolerance: number,
): void {
  expect(actual.shape.join("x"), `shape of ${place.tap}`).toBe(expected.shape.join("x"));
  const error = scaledError(actual.data as Float32Array, expected.data as Float32Array);
  rows.push({ ...place, error, tolerance });
  expect(error, `${place.network} ${place.weights} ${place.tap}`).toBeLessThanOrEqual(tolerance);
}

/** max |a − b| / max |b|; NaN counts as infinitely wrong. */
export function scaledError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [error, scale] = [0, 0];
  for (let index = 0; index < expected.length; index += 1) {
    const difference = Math.abs(actual[index]! - expected[index]!);
    error = Number.isNaN(difference) ? Infinity : Math.max(error, difference);
    scale = Math.max(scale, Math.abs(expected[index]!));
  }
  return error / (scale || 1);
}

/** Prints the rows noted so far. */
export function printParity(): void {
  // Whole edits and LoRAs run on the files in their published types.
  const dtype = ({ weights }: Row) => STORED[weights] ?? "as published";
  const lines = rows.map((row) => [
    row.network,
    row.weights,
    dtype(row),
    row.tap,
    row.error.toExponential(1),
    row.tolerance.toExponential(0),
  ]);
  const table = [["network", "weights", "dtype", "tap", "max error", "tolerance"], ...lines];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  console.log(
    table
      .map((line) =>
        line
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd(),
      )
      .join("\n"),
  );
}
