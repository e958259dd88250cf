// Operators on lengths and places against plain JavaScript, at lengths that are known only when the graph runs.
import { describe, expect, test } from "vitest";
import { Graph } from "../../src/graph/graph.js";
import {
  counted,
  cumulativeSum,
  divided,
  gather,
  nonFinite,
  part,
  range,
  refuseUnless,
  reshapeTo,
  squeeze,
  sumOver,
  unsqueeze,
  where,
} from "../../src/graph/indexing.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { at, difference, evaluate, evaluateOne, formula, numbers, sum } from "./run.js";

const whole = (...list: readonly number[]) => tensor("int64", [list.length], BigInt64Array.from(list.map(BigInt)));
const x = numbers([2, 5, 3], 1);
const named = { x: ["a", "b", "c"] };

test.each([0, 1, 4])("range counts to %i", async (count) => {
  const found = await evaluateOne({ count: whole(count) }, ({ count }) => range(count!, "n"));
  expect([...found.data].map(Number)).toEqual(Array.from({ length: count }, (_, i) => i));
});

test("gather picks elements of an axis, in any order and more than once", async () => {
  const found = await evaluateOne({ x, places: whole(4, 0, 0, 2) }, ({ x, places }) => gather(x!, places!, 1), named);
  expect(found).toEqual(formula([2, 4, 3], ([a, b, c]) => at(x, [a!, [4, 0, 0, 2][b!]!, c!])));
});

test("cumulativeSum adds up a list", async () => {
  const found = await evaluateOne({ x: whole(3, 0, 4, 1) }, ({ x }) => cumulativeSum(x!), { x: ["n"] });
  expect(found).toEqual(whole(3, 3, 7, 8));
});

test("sumOver adds up one axis", async () => {
  const found = await evaluateOne({ x }, ({ x }) => sumOver(x!, 1), named);
  const wanted = formula([2, 1, 3], ([a, , c]) => sum(5, (b) => at(x, [a!, b, c!])));
  expect(difference(found, wanted)).toBeUndefined();
});

test("where, equals and atLeast choose by comparison, broadcasting", async () => {
  const feeds = { rows: whole(0, 1, 2, 3), columns: whole(2, 0, 3) };
  const [chosen, equal] = await evaluate(
    feeds,
    ({ rows, columns }, graph) => {
      const [down, across] = [unsqueeze(rows!, 1), unsqueeze(columns!, 0)];
      const [yes, no] = [graph.constant("f32", [1], [1]), graph.constant("f32", [], [Number.NEGATIVE_INFINITY])];
      return [where(down.atLeast(across), yes, no), counted(down.equals(across))];
    },
    { rows: ["r"], columns: ["c"] },
  );
  expect(chosen).toEqual(formula([4, 3], ([r, c]) => (r! >= [2, 0, 3][c!]! ? 1 : Number.NEGATIVE_INFINITY)));
  expect([...equal!.data].map(Number)).toEqual([0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
});

test("part cuts from a start to an end, also to nothing", async () => {
  const found = await evaluate(
    { x, start: whole(1), end: whole(4) },
    ({ x, start, end }) => [
      part(x!, { axis: 1, start: start!, end: end!, length: "some" }),
      part(x!, { axis: 1, start: start!, end: start!, length: "none" }),
    ],
    named,
  );
  expect(found[0]).toEqual(formula([2, 3, 3], ([a, b, c]) => at(x, [a!, b! + 1, c!])));
  expect(found[1]!.shape).toEqual([2, 0, 3]);
});

test("unsqueeze and squeeze add and drop an axis of length 1", async () => {
  const found = await evaluate({ x }, ({ x }) => [unsqueeze(x!, 2), squeeze(unsqueeze(x!, 0), 0)], named);
  expect(found.map(({ shape }) => shape)).toEqual([
    [2, 5, 1, 3],
    [2, 5, 3],
  ]);
});

test("reshapeTo moves several named lengths", async () => {
  const found = await evaluateOne(
    { x },
    ({ x }) => {
      const lengths = { b: x!.shapeValue(1, 2), c: x!.shapeValue(2, 3), a: x!.shapeValue(0, 1) };
      return reshapeTo(x!, ["b", "c", 1, "a"], lengths);
    },
    named,
  );
  expect(found).toEqual(float32([5, 3, 1, 2], x.data));
});

test("divided gives whole quotients and remainders", async () => {
  const found = await evaluate({ x: whole(0, 5, 6, 17), by: whole(3) }, ({ x, by }) => {
    const { quotient, remainder } = divided(x!, by!);
    return [quotient, remainder];
  });
  expect(found).toEqual([whole(0, 1, 2, 5), whole(0, 2, 0, 2)]);
});

test("min and max of two values are elementwise", async () => {
  const found = await evaluate({ x: whole(1, 5), y: whole(4, 2) }, ({ x, y }) => [x!.min(y!), x!.max(y!)]);
  expect(found).toEqual([whole(1, 2), whole(4, 5)]);
});

describe("refuseUnless", () => {
  const guarded = (violations: number, x = numbers([2, 3])) =>
    evaluateOne({ x, violations: whole(violations) }, ({ x, violations }) =>
      refuseUnless(x!, violations!, "the answer must be 42"),
    );

  test("gives the value where nothing is wrong", async () => {
    expect(await guarded(0)).toEqual(numbers([2, 3]));
    expect(await guarded(0, float32([0, 3]))).toEqual(float32([0, 3]));
  });

  test.each([1, 7, -1])("fails by its message at %i violations", async (violations) => {
    await expect(guarded(violations)).rejects.toThrow("the answer must be 42");
    await expect(guarded(violations, float32([0, 3]))).rejects.toThrow("the answer must be 42");
  });
});

test.each([
  [[1, -2, 3], 0],
  [[1, Number.NaN, 3], 1],
  [[Number.POSITIVE_INFINITY, 1, 1], 1],
  [[Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 1], 1],
])("nonFinite of %j is %i", async (list, wanted) => {
  const found = await evaluateOne({ x: float32([1, 3], Float32Array.from(list)) }, ({ x }) => nonFinite(x!));
  expect(found).toEqual(whole(wanted));
});

describe("what does not fit is refused where it is written", () => {
  const graph = new Graph("wrong");
  const [x, list] = [graph.input("x", "f32", ["a", "b"]), graph.input("list", "i64", ["n"])];

  test.each([
    ["places that are no list", () => gather(list, list.reshape(["n", 1])), "are no list"],
    ["a sum of what is no list", () => cumulativeSum(x), "it is no list"],
    ["a choice between types", () => where(x.equals(0), x, list), "do not fit"],
    ["a choice between lengths", () => where(x.equals(0), x, x.transpose([1, 0])), "do not fit"],
    ["an axis that is not of length 1", () => squeeze(x, 0), "axis 0 is not of length 1"],
    ["another count of elements", () => reshapeTo(x, ["a", "b", 2], {}), "[a, b, 2] has another count of elements"],
    ["a length that is not given", () => reshapeTo(x, ["b", "a"], {}), 'the length "b" is not given'],
  ])("%s", (_, build, message) => {
    expect(build).toThrow(message);
  });
});
