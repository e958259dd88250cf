// What the form holds, as parameters of an edit and back. Parameters that the form has no field for stay with the edit, and are shown.
import type { Job } from "./page-wire.js";

/** Parameters of an edit by JSON name. */
export type Parameters = Readonly<Record<string, unknown>>;

/** The form. Texts are sent as they are written: the server reads and refuses them. */
export interface FormValues {
  readonly prompt: string;
  /** Empty: the server's. */
  readonly model: string;
  /** `fast-4`, `fast-8`, `quality`; empty: the model's own numbers. */
  readonly preset: string;
  /** Empty: a random one. */
  readonly seed: string;
  readonly megapixels: string;
  readonly size: string;
  readonly steps: string;
  readonly cfg: string;
  readonly negativePrompt: string;
  readonly format: string;
  readonly keepSize: boolean;
  /** Parameters without a field. */
  readonly others: Parameters;
}

/** An empty form. */
export const EMPTY: FormValues = {
  prompt: "",
  model: "",
  preset: "",
  seed: "",
  megapixels: "",
  size: "",
  steps: "",
  cfg: "",
  negativePrompt: "",
  format: "",
  keepSize: false,
  others: {},
};

/** Parameters that are texts of the form, by the field of each. */
const TEXTS = {
  prompt: "prompt",
  model: "model",
  size: "size",
  megapixels: "megapixels",
  steps: "steps",
  cfg: "cfg",
  negative_prompt: "negativePrompt",
  format: "format",
} as const satisfies Readonly<Record<string, keyof FormValues>>;

/** Parameters whose spaces at the ends count. */
const WRITTEN_OUT: ReadonlySet<string> = new Set(["prompt", "negative_prompt"]);

/** The parameters of an edit by the form. */
export function parametersOf(values: FormValues, { hasMask }: { hasMask: boolean }): Parameters {
  const { preset, seed, keepSize, others } = values;
  const texts = Object.entries(TEXTS).map(([name, field]) => {
    return [name, WRITTEN_OUT.has(name) ? values[field] : values[field].trim()] as const;
  });
  const fast = /^fast-(\d+)$/.exec(preset)?.[1];
  // A mask has no effect by itself.
  const pastesBack = hasMask && !Object.hasOwn(others, "paste_back") && !Object.hasOwn(others, "crop_mask");
  return {
    ...others,
    ...Object.fromEntries(texts.filter(([, text]) => text !== "")),
    seed: seed.trim() || "random",
    ...(fast !== undefined && { fast }),
    ...(preset === "quality" && { quality: true }),
    ...(keepSize && { keep_size: true }),
    ...(pastesBack && { paste_back: true }),
  };
}

/** The parameters of a job as they were given, with another seed. */
export function parametersAgain({ parameters }: Pick<Job, "parameters">): Parameters {
  return { ...parameters, seed: "random" };
}

/** The form of a job, with the seed that it had: sent again, it gives the same picture. */
export function valuesOf({ parameters, result, mask }: Pick<Job, "parameters" | "result" | "mask">): FormValues {
  const fields: Record<string, unknown> = {};
  const others: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(parameters)) {
    if (name === "seed") continue;
    // The form sends it itself with a mask.
    if (name === "paste_back" && isOn(value) && mask !== undefined) continue;
    if (Object.hasOwn(TEXTS, name) && isWritten(value)) fields[TEXTS[name as keyof typeof TEXTS]] = String(value);
    else if (name === "fast" && isWritten(value)) fields["preset"] = `fast-${value}`;
    else if (name === "quality" && isOn(value)) fields["preset"] = "quality";
    else if (name === "keep_size" && isOn(value)) fields["keepSize"] = true;
    else others[name] = value;
  }
  const seed = result?.seed ?? parameters["seed"];
  return { ...EMPTY, ...fields, others, seed: isWritten(seed) && seed !== "random" ? String(seed) : "" };
}

/** The form that was kept as JSON; fields that are missing or of another type are empty. */
export function keptValues(json: string | null): FormValues {
  const kept = parsed(json);
  const fields = Object.entries(EMPTY).map(([field, empty]) => {
    const value = kept[field];
    return [field, typeof value === typeof empty && value !== null && !Array.isArray(value) ? value : empty];
  });
  return Object.fromEntries(fields) as unknown as FormValues;
}

/** What is missing before the form can be sent; undefined: nothing. */
export function missingIn(
  { prompt }: Pick<FormValues, "prompt">,
  pictures: number,
  /** Whether the model makes a picture of a prompt alone. */
  generates: boolean,
): { readonly parameter: string; readonly message: string } | undefined {
  if (pictures === 0 && !generates) return { parameter: "image", message: "Choose a picture first" };
  if (prompt.trim() !== "") return undefined;
  if (pictures === 0) return { parameter: "prompt", message: "Say what the picture shows" };
  return { parameter: "prompt", message: "Say what to change in the picture" };
}

function parsed(json: string | null): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(json ?? "{}");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function isOn(value: unknown): boolean {
  return value === true || value === "true";
}

function isWritten(value: unknown): value is string | number {
  return typeof value === "string" || typeof value === "number";
}
