import { expect, test } from "vitest";
import { roundHalfEven } from "../../src/std/rounding.js";

test("halves round to the even neighbour", () => {
  expect([0.5, 1.5, 2.5, -1.5, 2.4999, 2.5001].map(roundHalfEven)).toEqual([0, 2, 2, -2, 2, 3]);
});
