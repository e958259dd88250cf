// Which numbers an edit has that no one gave: those of its model, by its name or by the family of its transformer.
import { expect, test } from "vitest";
import { EDIT_PARAMETERS, MODEL_PARAMETERS, PRESET_PARAMETERS } from "../../src/edit/parameters/table.js";
import { readSettings } from "../../src/edit/recipe/recipe-settings.js";
import { resolveSettings } from "../../src/edit/resolve/resolve-settings.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { fixture } from "../support/golden.js";

const TABLE = { ...EDIT_PARAMETERS, ...MODEL_PARAMETERS, ...PRESET_PARAMETERS };
const TURBO = [1, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568, 0].map(Math.fround);

async function resolved(written: Readonly<Record<string, unknown>>) {
  const events: ProgressEvent[] = [];
  const settings = readSettings(TABLE, { prompt: "x", ...written });
  const given = new Map(
    Object.entries(written).map(([name, value]) => [name, { value, name: `--${name}`, strength: 1, isOfCall: true }]),
  );
  const values = await resolveSettings({ settings, given, force: false, emit: (event) => void events.push(event) });
  return { values, warnings: events.flatMap((event) => (event.kind === "warning" ? [event.text] : [])) };
}

test("a model that was distilled for certain noise levels has them, and as many steps", async () => {
  const { values, warnings } = await resolved({ model: "qwen-image-2.1-turbo" });
  expect(values).toMatchObject({ sigmas: TURBO, steps: 8, cfg: 1, cfgNorm: "none" });
  expect(warnings).toEqual([]);
});

test("other steps leave its levels, with a warning", async () => {
  const { values, warnings } = await resolved({ model: "qwen-image-2.1-turbo", steps: 4 });
  expect(values).toMatchObject({ sigmas: undefined, steps: 4 });
  expect(warnings).toEqual([expect.stringContaining("was distilled for its 8 noise levels")]);
});

test("a transformer that is named brings the numbers and the other files of its family's model", async () => {
  const { values } = await resolved({ transformer: fixture("tiny-2/transformer.safetensors") });
  expect(values).toMatchObject({ model: "qwen-image-2.1", steps: 40, cfg: 1, cfgNorm: "none", shift: 1.99372 });
});

test("one of the default model's family leaves the default model's numbers", async () => {
  const { values } = await resolved({ transformer: fixture("tiny/transformer.safetensors") });
  expect(values).toMatchObject({ model: undefined, steps: 20, cfg: 2.5, cfgNorm: 1, shift: 3 });
});

test("a transformer that is not there is left to whoever opens it", async () => {
  const { values } = await resolved({ transformer: "/nowhere/transformer.safetensors" });
  expect(values).toMatchObject({ model: undefined, steps: 20 });
});
