// Recipes as pictures from elsewhere carry them: what is damaged is no recipe, and nothing in one reaches further than it should.
import { expect, test } from "vitest";
import { parseRecipe, recipeText, toRecipe } from "../../src/artifacts/recipe.js";

const INFO = {
  settings: { steps: 4, lora: ["a"] },
  sizes: { width: 64 },
  inputs: { "image.1": "ab" },
  weights: { vae: "cd" },
  names: { vae: "vae.safetensors" },
};

test("is read as it was written", () => {
  expect(parseRecipe(recipeText(INFO))).toMatchObject({ recipe: 1, qedit: expect.any(String), ...INFO });
});

test("of version 0 has neither a version nor names", () => {
  const { names: _, ...older } = INFO;
  expect(toRecipe(older)).toEqual({ recipe: 0, qedit: undefined, ...older, names: {} });
});

test.each([
  ["no JSON", "{"],
  ["a list", "[]"],
  ["null", "null"],
  ["settings that are a list", JSON.stringify({ ...INFO, settings: [] })],
  ["sizes that are a text", JSON.stringify({ ...INFO, sizes: "64x64" })],
  ["a hash that is a number", JSON.stringify({ ...INFO, inputs: { "image.1": 1 } })],
  ["weights that are null", JSON.stringify({ ...INFO, weights: null })],
  ["no weights", JSON.stringify({ ...INFO, weights: undefined })],
  ["a version that is a text", JSON.stringify({ ...INFO, recipe: "1" })],
])("is none in %s", (_, text) => {
  expect(parseRecipe(text)).toBeUndefined();
});

test.each<[string, (settings: Record<string, unknown>) => void]>([
  ["a setting that is an object", (settings) => (settings["cfg"] = { toString: 5 })],
  ["sigmas that are no numbers", (settings) => (settings["sigmas"] = [{}])],
  ["strengths that are one text", (settings) => (settings["lora_strengths"] = "1")],
])("is none with %s", (_, change) => {
  const settings: Record<string, unknown> = { cfg: 1, sigmas: [1, 0], lora_strengths: [] };
  expect(toRecipe({ ...INFO, settings: { sample: settings } })).toBeDefined();
  change(settings);
  expect(toRecipe({ ...INFO, settings: { sample: settings } })).toBeUndefined();
});

test("keeps no folders of names, and no names that are no texts", () => {
  const names = { vae: "/etc/passwd", transformer: "..\\..\\secret.safetensors" };
  expect(toRecipe({ ...INFO, names })?.names).toEqual({ vae: "passwd", transformer: "secret.safetensors" });
  expect(toRecipe({ ...INFO, names: { vae: 1 } })?.names).toEqual({});
});

test("leaves out keys that mean something to JavaScript", () => {
  const text = `{"settings":{"__proto__":{"steps":9},"cfg":1},"sizes":{},"inputs":{"constructor":"x"},"weights":{"__proto__":"y"}}`;
  const recipe = parseRecipe(text)!;
  expect(Object.getOwnPropertyNames(recipe.settings)).toEqual(["cfg"]);
  expect([recipe.inputs, recipe.weights].map((each) => Object.getOwnPropertyNames(each))).toEqual([[], []]);
  expect(recipe.settings["steps"]).toBeUndefined();
});
