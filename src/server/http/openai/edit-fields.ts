// The fields of OpenAI's image edits, and of the servers that extend them (vLLM-Omni, SGLang), as parameters of an edit. What is not understood
// is refused by name; what does not concern an edit on one's own machine is accepted and has no effect.
// https://platform.openai.com/docs/api-reference/images/createEdit

import { readCatalog } from "../../../catalog/published/models.js";
import { defaulted, readValue } from "../../../edit/parameters/parameter.js";
import { duration } from "../../../edit/parameters/parameter-kinds.js";
import { isParameter, parameterOfText } from "../../../edit/request/edit-request.js";
import { isObject } from "../../../std/guards.js";
import { HttpError } from "../http-error.js";

/** A value as it came: of JSON, or the texts of a form. */
export type Field = unknown;

/** How the answer is sent. */
export interface AnswerOptions {
  /** Pictures, with seeds that follow each other. */
  readonly n: number;
  readonly isStream: boolean;
  /** Previews before the picture, 0 to 3. */
  readonly partialImages: number;
  /** As it was asked for, or `auto`. */
  readonly quality: string;
  /** Milliseconds that the networks stay open after it; undefined: as the server keeps them. */
  readonly keepAlive: number | undefined;
}

/** What the fields ask for. */
export interface ReadFields {
  /** Parameters of an edit, by JSON name. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly answer: AnswerOptions;
}

/** Accepted without effect. */
const IGNORED = new Set(["user", "safety_identifier", "input_fidelity", "moderation"]);

const KEEP_ALIVE = defaulted(duration, 0, { summary: "how long networks stay open", group: "Server" });

/** Names of parameters that other servers give. */
const ALIASES: ReadonlyMap<string, string> = new Map([["num_inference_steps", "steps"]]);

/** Values of `background` that a picture without transparency satisfies. */
const BACKGROUNDS = ["auto", "opaque"];
const FORMATS = ["png", "jpeg", "webp"];
const QUALITIES: Readonly<Record<string, "fast" | "quality" | undefined>> = {
  auto: undefined,
  standard: undefined,
  medium: undefined,
  low: "fast",
  high: "quality",
  hd: "quality",
  xhigh: "quality",
  max: "quality",
};

const MOST_PICTURES = 10;
const MOST_PARTIAL = 3;
/** OpenAI's default, which PNG does not have. */
const FULL_QUALITY = 100;

/** Reads the fields of a request; `usual` is the model of those that name none. Throws HttpError 400 and 404, QEDIT_E_USAGE. */
export async function readFields(
  given: Readonly<Record<string, Field>>,
  usual: string | undefined,
): Promise<ReadFields> {
  const fields = new Fields(given);
  const model = await modelOf(fields.text("model"));
  const quality = fields.choice("quality", Object.keys(QUALITIES)) ?? "auto";
  const format = fields.choice("output_format", FORMATS) ?? "png";
  const background = fields.choice("background", [...BACKGROUNDS, "transparent"]);
  if (background === "transparent") throw unsupported("background", 'transparent pictures are not made: use "opaque"');
  if (fields.choice("response_format", ["b64_json", "url"]) === "url")
    throw unsupported("response_format", 'pictures are sent in the answer: use "b64_json"');
  const answer = {
    n: fields.whole("n", 1, MOST_PICTURES) ?? 1,
    isStream: fields.flag("stream") ?? false,
    partialImages: fields.whole("partial_images", 0, MOST_PARTIAL) ?? 0,
    quality,
    keepAlive: keepAliveOf(fields.take("keep_alive")),
  };
  const size = fields.text("size");
  const compression = fields.whole("output_compression", 0, 100);
  const parameters = {
    ...(model !== undefined && { model }),
    ...(await qualityParameters(QUALITIES[quality], quality, model ?? usual)),
    ...(size !== undefined && size !== "auto" && { size }),
    ...formatParameters(format, compression),
    ...loraParameters(fields),
    ...cfgParameters(fields),
    ...fields.rest(),
  };
  return { parameters, answer };
}

/** Reads values of the known types, and remembers which fields were read. */
class Fields {
  readonly #left: Map<string, Field>;

  constructor(given: Readonly<Record<string, Field>>) {
    // null is "not given".
    this.#left = new Map(Object.entries(given).filter(([, value]) => value !== null && value !== undefined));
  }

  take(name: string): Field {
    const value = this.#left.get(name);
    this.#left.delete(name);
    return Array.isArray(value) && value.length === 1 ? value[0] : value;
  }

  text(name: string): string | undefined {
    const value = this.take(name);
    if (value === undefined || typeof value === "string")
      return value === "" ? undefined : (value as string | undefined);
    throw invalid(name, "a text is wanted");
  }

  choice(name: string, allowed: readonly string[]): string | undefined {
    const value = this.text(name);
    if (value === undefined || allowed.includes(value)) return value;
    throw invalid(name, `one of ${allowed.join(", ")} is wanted`);
  }

  whole(name: string, least: number, most: number): number | undefined {
    const value = this.take(name);
    if (value === undefined || value === "") return undefined;
    const number = typeof value === "string" || typeof value === "number" ? Number(value) : Number.NaN;
    if (Number.isInteger(number) && number >= least && number <= most) return number;
    throw invalid(name, `a whole number from ${least} to ${most} is wanted`);
  }

  flag(name: string): boolean | undefined {
    const value = this.take(name);
    if (value === undefined || value === "") return undefined;
    if (value === true || value === "true" || value === "True" || value === "1") return true;
    if (value === false || value === "false" || value === "False" || value === "0") return false;
    throw invalid(name, "true or false is wanted");
  }

  // What is left: parameters of an edit by their own names, and those of other servers.
  rest(): Readonly<Record<string, unknown>> {
    const parameters = new Map<string, unknown>();
    for (const name of [...this.#left.keys()]) {
      const value = this.take(name);
      if (IGNORED.has(name)) continue;
      const own = ALIASES.get(name) ?? name;
      if (!isParameter(own)) throw unknown(name);
      if (parameters.has(own)) throw invalid(name, `it is given twice, also as "${own}"`);
      parameters.set(own, areTexts(value) ? parameterOfText(own, [value].flat()) : value);
    }
    return Object.fromEntries(parameters);
  }
}

// One, or those of a form's parts.
function areTexts(value: unknown): value is string | readonly string[] {
  return (
    typeof value === "string" ||
    (Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string"))
  );
}

/** Reads `keep_alive` as ollama has it: seconds, 5m, 0 for "close them now", negative or `forever`. Throws QEDIT_E_USAGE. */
function keepAliveOf(value: unknown): number | undefined {
  return value === undefined || value === null || value === "" ? undefined : readValue("keepAlive", KEEP_ALIVE, value);
}

// A model of the catalogue; absent is the server's default.
async function modelOf(name: string | undefined): Promise<string | undefined> {
  if (name === undefined) return undefined;
  const { models } = await readCatalog();
  if (models.has(name)) return name;
  throw modelNotFound(name, [...models.keys()]);
}

/** The error for a model that the catalogue does not have. */
export function modelNotFound(name: string, models: readonly string[]): HttpError {
  return new HttpError(404, "model_not_found", `There is no model "${name.slice(0, 100)}"`, {
    hint: `Use one of ${models.join(", ")}`,
    parameter: "model",
  });
}

async function qualityParameters(
  kind: "fast" | "quality" | undefined,
  written: string,
  model: string | undefined,
): Promise<Readonly<Record<string, unknown>>> {
  if (kind === undefined) return {};
  const { models, default: first } = await readCatalog();
  const { name, presets } = models.get(model ?? first) ?? { name: model, presets: {} };
  if (kind === "quality") {
    if (!("quality" in presets)) throw unsupported("quality", `${name} has no preset for "${written}": use "auto"`);
    return { quality: true };
  }
  const [fastest] = Object.keys(presets)
    .flatMap((each) => /^fast-(\d+)$/.exec(each)?.[1] ?? [])
    .sort((a, b) => Number(a) - Number(b));
  if (fastest === undefined) throw unsupported("quality", `${name} has no preset for "${written}": use "auto"`);
  return { fast: fastest };
}

function formatParameters(format: string, compression: number | undefined): Readonly<Record<string, unknown>> {
  if (format === "png") {
    if (compression === undefined || compression === FULL_QUALITY) return { format };
    throw invalid("output_compression", "it has an effect on jpeg and webp only");
  }
  // 0 is the strongest compression there; our scale begins at 1.
  return { format, ...(compression !== undefined && { [`${format}_quality`]: Math.max(1, compression) }) };
}

// A name, a list of names, or strengths by name; forms write that as lora[name].
function loraParameters(fields: Fields): Readonly<Record<string, unknown>> {
  const value = fields.take("lora");
  if (value === undefined || value === "") return {};
  if (!isObject(value)) return { lora: value };
  const lora = Object.entries(value).map(([name, strength]) => {
    const number = Number(strength);
    if (typeof strength === "boolean" || strength === "" || strength === null || !Number.isFinite(number))
      throw invalid("lora", `the strength of ${name.slice(0, 100)} must be a number`);
    return `${name}:${number}`;
  });
  return { lora };
}

// These models are guided by true_cfg_scale; guidance_scale counts where it alone is given, as in servers that have only that.
function cfgParameters(fields: Fields): Readonly<Record<string, unknown>> {
  const names = ["true_cfg_scale", "cfg_scale", "cfg", "guidance_scale"] as const;
  const values = names.map((name) => [name, fields.take(name)] as const);
  const [first, second] = values.filter(([, value]) => value !== undefined && value !== "");
  if (first === undefined) return {};
  const [name, value] = first;
  if (second !== undefined && second[0] !== "guidance_scale")
    throw invalid(second[0], `it is given twice, also as "${name}"`);
  return { cfg: typeof value === "string" ? parameterOfText("cfg", [value]) : value };
}

function unknown(written: string): HttpError {
  const name = written.slice(0, 100);
  return new HttpError(400, "unsupported_parameter", `"${name}" is no parameter of an edit`, {
    hint: "See /openapi.json",
    parameter: name,
  });
}

function invalid(parameter: string, reason: string): HttpError {
  return new HttpError(400, "invalid_value", `Cannot use "${parameter}": ${reason}`, { parameter });
}

function unsupported(parameter: string, reason: string): HttpError {
  return new HttpError(400, "unsupported_parameter", `Cannot use "${parameter}": ${reason}`, { parameter });
}
