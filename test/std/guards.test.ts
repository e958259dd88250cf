import { expect, test } from "vitest";
import { isObject } from "../../src/std/guards.js";

test("an object is no list and no null", () => {
  expect([{}, { a: 1 }, [], null, "a", 1, undefined].map(isObject)).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
});
