import { expect, test } from "vitest";
import {
  EMPTY,
  type FormValues,
  keptValues,
  missingIn,
  parametersAgain,
  parametersOf,
  valuesOf,
} from "../../../../src/server/http/page/form-values.js";

const NO_MASK = { hasMask: false };
const form = (changes: Partial<FormValues>): FormValues => ({ ...EMPTY, prompt: "make it winter", ...changes });

test("an edit has what was written, and a random seed", () => {
  expect(parametersOf(form({}), NO_MASK)).toEqual({ prompt: "make it winter", seed: "random" });
});

test("fields are parameters, and presets are theirs", () => {
  const values = form({ model: "tiny", preset: "fast-4", seed: " 18446744073709551615 ", steps: "8", keepSize: true });
  expect(parametersOf(values, NO_MASK)).toEqual({
    ...{ prompt: "make it winter", model: "tiny", fast: "4", seed: "18446744073709551615", steps: "8" },
    keep_size: true,
  });
  expect(parametersOf(form({ preset: "quality" }), NO_MASK)).toMatchObject({ quality: true });
});

test("line breaks and spaces of a prompt stay", () => {
  expect(parametersOf(form({ prompt: " one\ntwo " }), NO_MASK)["prompt"]).toBe(" one\ntwo ");
});

test("what is no number is sent as it is, for the server to refuse", () => {
  expect(parametersOf(form({ steps: "many" }), NO_MASK)["steps"]).toBe("many");
});

test("a mask is pasted back, unless the edit crops to it", () => {
  expect(parametersOf(form({}), { hasMask: true })).toMatchObject({ paste_back: true });
  const cropped = parametersOf(form({ others: { crop_mask: true } }), { hasMask: true });
  expect(cropped).toMatchObject({ crop_mask: true });
  expect(cropped).not.toHaveProperty("paste_back");
});

test("a job's settings come back with the seed that it had", () => {
  const parameters = { prompt: "a", seed: "random", fast: "4", steps: 8, size: "64x32", keep_size: true };
  const values = valuesOf({ parameters, result: { seed: "7" } as never });
  expect(values).toEqual(form({ prompt: "a", seed: "7", preset: "fast-4", steps: "8", size: "64x32", keepSize: true }));
  expect(parametersOf(values, NO_MASK)).toEqual({ ...parameters, seed: "7", steps: "8" });
});

test("parameters without a field stay with the edit", () => {
  const parameters = { prompt: "a", sampler: "heun", lora: ["one:0.5", "two"], shift: 3.1, negative_prompt: null };
  const values = valuesOf({ parameters });
  expect(values.others).toEqual({ sampler: "heun", lora: ["one:0.5", "two"], shift: 3.1, negative_prompt: null });
  expect(parametersOf(values, NO_MASK)).toEqual({ ...parameters, seed: "random" });
});

test("what is written into a field is stronger than the job that was loaded", () => {
  const values = { ...valuesOf({ parameters: { prompt: "a", negative_prompt: null } }), negativePrompt: "fog" };
  expect(parametersOf(values, NO_MASK)["negative_prompt"]).toBe("fog");
});

test("a mask's job does not paste back twice", () => {
  const parameters = { prompt: "a", paste_back: true, seed: "1" };
  const values = valuesOf({ parameters, mask: { name: "m.png", sha256: "" } });
  expect(values.others).toEqual({});
  expect(parametersOf(values, { hasMask: true })).toEqual(parameters);
  expect(valuesOf({ parameters }).others).toEqual({ paste_back: true });
});

test("the same edit again has another seed and nothing else", () => {
  expect(parametersAgain({ parameters: { prompt: "a", seed: "7", negative_prompt: null } })).toEqual({
    ...{ prompt: "a", seed: "random", negative_prompt: null },
  });
});

test.each([null, "", "{", "3", "null", '"text"'])("a draft that is %j is an empty form", (json) => {
  expect(keptValues(json)).toEqual(EMPTY);
});

test("a draft keeps the fields that are of their type", () => {
  const kept = JSON.stringify({ ...form({ steps: "8", others: { sampler: "heun" } }), cfg: 3, keepSize: "yes" });
  expect(keptValues(kept)).toEqual(form({ steps: "8", others: { sampler: "heun" } }));
  expect(keptValues(JSON.stringify({ others: ["a"] }))).toEqual(EMPTY);
});

test("a picture and a prompt are needed", () => {
  expect(missingIn(form({}), 0, false)?.parameter).toBe("image");
  expect(missingIn(form({ prompt: " \n" }), 1, false)?.parameter).toBe("prompt");
  expect(missingIn(form({}), 1, false)).toBeUndefined();
  expect(missingIn(form({}), 0, true)).toBeUndefined();
  expect(missingIn(form({ prompt: "" }), 0, true)?.message).toBe("Say what the picture shows");
});
