import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { toFloat } from "../../src/image/image.js";
import { visionPatches } from "../../src/image/patches.js";
import { floats, largestDifference } from "./compare.js";
import { TOLERANCES } from "./tolerances.js";

interface Case {
  readonly patch: number;
  readonly temporal: number;
  readonly merge: number;
  readonly width: number;
  readonly height: number;
  readonly grid: number[];
  readonly source: string;
  readonly shape: number[];
  readonly rows: string;
}
const cases = JSON.parse(
  readFileSync(new URL("../../fixtures/images/golden/patches.json", import.meta.url), "utf8"),
) as Case[];

test.each(cases)(
  "patches of $patch pixels, $temporal frames and blocks of $merge equal the published processor's",
  (expected) => {
    const { width, height, source, patch, temporal, merge } = expected;
    const { pixelValues, grid } = visionPatches(toFloat({ width, height, data: Buffer.from(source, "base64") }), {
      patch,
      temporal,
      merge,
    });
    expect(pixelValues.shape).toEqual(expected.shape);
    expect(grid).toEqual(expected.grid);
    expect(largestDifference(pixelValues.data, floats(expected.rows))).toBeLessThanOrEqual(TOLERANCES.patches);
  },
);

test("Qwen2.5-VL's cut is the default", () => {
  const { pixelValues, grid } = visionPatches({ width: 84, height: 56, data: new Float32Array(84 * 56 * 3) });
  expect([pixelValues.shape, grid]).toEqual([
    [24, 1176],
    [1, 4, 6],
  ]);
});

test("a side off the grid is refused", () => {
  expect(() => visionPatches({ width: 84, height: 42, data: new Float32Array(84 * 42 * 3) })).toThrow(
    "sides must be multiples of 28",
  );
});
