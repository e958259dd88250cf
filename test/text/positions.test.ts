import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type PlacedImage, positionIds } from "../../src/text/positions.js";

interface Case {
  readonly merge: number;
  readonly length: number;
  readonly images: PlacedImage[];
  readonly positions: number[][];
}
const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/text/positions.json", import.meta.url), "utf8"),
) as Case[];

test.each(golden)(
  "positions of $length tokens with pictures $images.length equal transformers'",
  ({ positions, ...layout }) => {
    expect(positionIds(layout)).toEqual(positions);
  },
);

test("two pictures side by side follow each other", () => {
  const grid = [1, 4, 2] as const;
  const [time, row, column] = positionIds({
    length: 5,
    images: [
      { start: 0, count: 2, grid },
      { start: 2, count: 2, grid },
    ],
  });
  expect(time).toEqual([0, 0, 2, 2, 4]);
  expect(row).toEqual([0, 1, 2, 3, 4]);
  expect(column).toEqual([0, 0, 2, 2, 4]);
});

test("a count that does not fit its grid is refused", () => {
  expect(() => positionIds({ length: 9, images: [{ start: 1, count: 3, grid: [1, 4, 4] }] })).toThrow(
    "3 image tokens for a grid of 1 x 4 x 4 patches",
  );
});
