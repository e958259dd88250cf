// The JSON that says what made an artifact or a picture: its form, and the check of what files hold instead.
import * as v from "valibot";
import { isObject } from "../std/guards.js";

/** What made an artifact. All of it is JSON, and equal runs give equal records: no times, no paths. */
export interface ArtifactInfo {
  /** The stage's options, defaults included. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Sizes by name: pixels, latent cells, tokens. */
  readonly sizes: Readonly<Record<string, unknown>>;
  /** fileHash of the input files, by role. */
  readonly inputs: Readonly<Record<string, string>>;
  /** The identity of the model files, by role. */
  readonly weights: Readonly<Record<string, string>>;
  /** Names of the files of inputs and weights by the same roles, without folders; nothing that is computed depends on them. */
  readonly names?: Readonly<Record<string, string>> | undefined;
}

// v.record takes lists, and leaves out keys such as __proto__.
const object = v.custom<Record<string, unknown>>(isObject);
const values = v.pipe(object, v.record(v.string(), v.unknown()));
const texts = v.pipe(object, v.record(v.string(), v.string()));

const number = v.pipe(v.number(), v.finite());
const numbers = v.array(number);
const size = v.strictObject({ width: number, height: number });
const box = v.strictObject({ x: number, y: number, width: number, height: number });
const scalar = v.union([v.string(), number, v.boolean(), v.null()]);
const setting = v.union([scalar, numbers, v.array(v.string())]);
const stageSetting = v.union([setting, size, box]);
// Settings are shown, compared and given to parameters again: nothing else may stand there.
const stageSettings = v.pipe(
  object,
  v.record(v.string(), v.unknown()),
  v.check((entries) =>
    Object.entries(entries).every(([name, value]) => v.is(name === "profiles" ? texts : stageSetting, value)),
  ),
  v.check(({ sigmas = [], lora_strengths: strengths = [] }) => v.is(numbers, sigmas) && v.is(numbers, strengths)),
);
const sizes = v.pipe(
  values,
  v.check(({ target }) => target === undefined || v.is(v.object({ size: v.optional(size) }), target)),
);

const INFO = {
  settings: v.pipe(object, v.record(v.string(), v.union([stageSettings, setting]))),
  sizes,
  inputs: texts,
  weights: texts,
  names: v.fallback(v.optional(texts), undefined),
};

/** The record inside an artifact; names that are no texts are left out. */
export const artifactRecord = v.object({ kind: v.string(), version: v.number(), ...INFO });

/** The recipe inside a picture, or the record of an artifact read as one. `recipe` is the version of its form. */
export const recipeRecord = v.object({
  recipe: v.optional(v.number(), 0),
  qedit: v.fallback(v.optional(v.string()), undefined),
  ...INFO,
});

/** What the JSON in a text is by a schema; undefined when it is none. */
export function parseRecord<T>(schema: v.GenericSchema<unknown, T>, text: string): T | undefined {
  try {
    return checkRecord(schema, JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** What a value is by a schema; undefined when it is none. */
export function checkRecord<T>(schema: v.GenericSchema<unknown, T>, value: unknown): T | undefined {
  const { success, output } = v.safeParse(schema, value, { abortEarly: true });
  return success ? output : undefined;
}
