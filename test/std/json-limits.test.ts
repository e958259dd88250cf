// What the limits count, on JSON and on what only looks like it.
import { expect, test } from "vitest";
import { jsonExcess } from "../../src/std/json-limits.js";

const LIMITS = { depth: 3, entries: 6 };

test.each([
  ["the deepest that is allowed", '{"a":[{"b":1}]}'],
  ["as many entries as are allowed", "[1,2,3,4,5,6]"],
  ["marks inside strings", '["[[[[[[,,,,,,","\\\\\\"[[[["]'],
  ["what is no JSON", '"never closed [[[[['],
  ["nothing", ""],
])("%s is within the limits", (_, text) => {
  expect(jsonExcess(text, LIMITS)).toBeUndefined();
});

test.each([
  ["one level more", '{"a":[{"b":[]}]}', "nests deeper than 3 levels"],
  ["one entry more", "[1,2,3,4,5,6,7]", "holds more than 6 entries"],
  ["a level behind a quote that is escaped", '["\\\\",[[[1]]]]', "nests deeper than 3 levels"],
])("%s is not", (_, text, reason) => {
  expect(jsonExcess(text, LIMITS)).toBe(reason);
});
