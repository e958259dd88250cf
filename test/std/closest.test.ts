import { expect, test } from "vitest";
import { closest } from "../../src/std/closest.js";

test.each([
  ["stesp", "steps"],
  ["sed", "seed"],
  ["seedss", "seed"],
  ["schdulr", "scheduler"],
])("%s is taken for %s", (word, wanted) => {
  expect(closest(word, ["scheduler", "steps", "seed"])).toBe(wanted);
});

test.each(["cfg", "at", "sampler", ""])("nothing is near %j", (word) => {
  expect(closest(word, ["scheduler", "steps", "seed"])).toBeUndefined();
});

test("of two equally near, the first is taken", () => {
  expect(closest("cut", ["cat", "cot"])).toBe("cat");
});
