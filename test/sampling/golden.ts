// Reads the golden numbers that fixtures/oracle/sampling/make_sampling.py wrote.

import { readFileSync } from "node:fs";

/** The cases of fixtures/sampling/NAME.json, and the facts they share. */
export function golden<Case, Facts = unknown>(name: string): Facts & { readonly cases: readonly Case[] } {
  return JSON.parse(readFileSync(new URL(`../../fixtures/sampling/${name}.json`, import.meta.url), "utf8"));
}

/** float32 values from base64 of their little-endian bytes. */
export function unpacked(text: string): Float32Array {
  const bytes = Buffer.from(text, "base64");
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

/** Largest absolute difference of two vectors; infinite when their lengths differ or a value is not a number. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  return Array.from(a).reduce(
    (max, value, i) =>
      Math.abs(value - b[i]!) <= max ? max : Number.isNaN(value - b[i]!) ? Infinity : Math.abs(value - b[i]!),
    0,
  );
}
