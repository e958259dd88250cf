// The exact edits that the tiny model's evaluation measures against are those it was trained on.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { applyEdit, EDITS } from "../../bench/tiny/edits.js";
import type { FloatImage } from "../../src/image/image.js";

interface Drawn {
  readonly width: number;
  readonly height: number;
  readonly terms: readonly [number, number, number, number];
}

interface Golden {
  readonly pictures: { readonly first: Drawn; readonly second: Drawn };
  readonly stride: number;
  readonly values: Readonly<Record<string, readonly number[]>>;
}

/** Rounding of the golden's decimals, and sums in another order. */
const TOLERANCE = 1e-5;

const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/tiny-model/edits-golden.json", import.meta.url), "utf8"),
) as Golden;
const [first, second] = [drawn(golden.pictures.first), drawn(golden.pictures.second)];

function drawn({ width, height, terms: [a, b, c, d] }: Drawn): FloatImage {
  const data = Float32Array.from({ length: width * height * 3 }, (_, i) => {
    const [channel, x, y] = [i % 3, Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    return ((a * x + b * y + c * channel + d * x * y) % 256) / 255;
  });
  return { width, height, data };
}

describe("the edits of the tiny model", () => {
  it("are all in the golden file", () => {
    expect(EDITS.map(({ name }) => name)).toEqual(Object.keys(golden.values));
  });

  it.each(EDITS)("$name gives the pixels of its Python twin", (edit) => {
    const { data } = applyEdit(edit, first, second);
    const found = Array.from(data).filter((_, i) => i % golden.stride === 0);
    expect(found).toHaveLength(golden.values[edit.name]!.length);
    const worst = Math.max(...found.map((value, i) => Math.abs(value - golden.values[edit.name]![i]!)));
    expect(worst).toBeLessThanOrEqual(TOLERANCE);
  });
});
