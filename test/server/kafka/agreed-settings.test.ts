// What the first worker takes the parameters of an edit for is what every later one has to take them for.
import { expect, test } from "vitest";
import { agreedSettings, refuseOtherSettings } from "../../../src/server/kafka/agreed-settings.js";
import { spelled } from "../../../src/std/errors.js";
import { tinyEdit } from "../../support/edits.js";

const { settings } = (await tinyEdit()).resolved;
const agreed = agreedSettings(settings);
const refusal = (text: string, own = settings) => {
  try {
    refuseOtherSettings(text, own);
    return undefined;
  } catch (error) {
    return spelled((error as Error).message, (name) => name);
  }
};

test("equal settings go on, and what each machine chooses for itself does not count", () => {
  expect(refusal(agreed)).toBeUndefined();
  expect(refusal(agreed, { ...settings, dtype: "float32", vaeDtype: "float32", tile: 256 })).toBeUndefined();
});

test("another value is refused by the name of its parameter", () => {
  expect(refusal(agreed, { ...settings, steps: 9 })).toMatch(/steps is 9 here, and was 2 for the stages before/);
  expect(refusal(agreed, { ...settings, match: "comfyui" })).toMatch(/match is "comfyui" here, and was null/);
  expect(refusal(agreed, { ...settings, seed: 43n })).toMatch(/seed is "43" here, and was "42"/);
});

test("a parameter of another version matters if it is set", () => {
  const more = (value: unknown) => JSON.stringify({ ...JSON.parse(agreed), later_one: value });
  expect(refusal(more(null))).toBeUndefined();
  expect(refusal(more(0.5))).toMatch(/later_one is unknown here, and was 0.5/);
  const { steps: _, ...fewer } = JSON.parse(agreed);
  expect(refusal(JSON.stringify(fewer))).toBeUndefined();
});

test.each(["", "{", "null", "[]", "7"])("settings that are %j are refused", (text) => {
  expect(refusal(text)).toMatch(/are no JSON object/);
});
