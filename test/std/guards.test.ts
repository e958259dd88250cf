import { expect, test } from "vitest";
import { isObject, isTexts } from "../../src/std/guards.js";

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

test("texts are an object of strings", () => {
  expect([{}, { a: "b" }, { a: "b", c: 1 }, ["a"], null].map(isTexts)).toEqual([true, true, false, false, false]);
});
