// Sets of byte ranges, and the pieces that are missing from them.

import { describe, expect, test } from "vitest";
import { type ByteRange, missingRanges, sizeOf, withRange } from "../../src/catalog/download/ranges.js";

const of = (...pairs: [number, number][]): ByteRange[] => pairs.map(([start, end]) => ({ start, end }));

describe("a range added to a set", () => {
  test.each([
    ["apart from the others", of([0, 5]), [7, 9], of([0, 5], [7, 9])],
    ["before them", of([7, 9]), [0, 5], of([0, 5], [7, 9])],
    ["that touches one", of([0, 5]), [5, 9], of([0, 9])],
    ["that closes a gap", of([0, 5], [7, 9]), [5, 7], of([0, 9])],
    ["that covers all", of([1, 2], [3, 4]), [0, 9], of([0, 9])],
    ["that is there", of([0, 9]), [2, 3], of([0, 9])],
    ["that is empty", of([0, 5]), [7, 7], of([0, 5])],
  ] as const)("%s", (_, set, [start, end], wanted) => {
    expect(withRange(set, { start, end })).toEqual(wanted);
  });

  test("in any order gives what was added, and nothing else", () => {
    const order = Array.from({ length: 100 }, (_, index) => (index * 37) % 100);
    const set = order.reduce<ByteRange[]>(
      (sum, at) => (at === 50 ? sum : withRange(sum, { start: at * 3, end: at * 3 + 3 })),
      [],
    );
    expect(set).toEqual(of([0, 150], [153, 300]));
    expect(sizeOf(set)).toBe(297);
  });
});

describe("what is missing", () => {
  test.each([
    ["of nothing", [], of([0, 4], [4, 8], [8, 10])],
    ["of the whole", of([0, 10]), []],
    ["around a piece", of([3, 5]), of([0, 3], [5, 9], [9, 10])],
    ["at the end", of([0, 9]), of([9, 10])],
  ])("%s comes in pieces of at most 4 bytes", (_, set, wanted) => {
    expect(missingRanges(set, 10, 4)).toEqual(wanted);
  });
});
