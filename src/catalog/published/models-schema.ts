// The form of models.json, checked field by field: what comes out can be trusted, its paths included.
import { QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";

/** What a file is for; also the name of the setting that takes its path. */
export type FileRole = "vae" | "textEncoder" | "transformer";

/** The roles of a model's files, in the order in which an edit needs them. */
export const FILE_ROLES: readonly FileRole[] = ["vae", "textEncoder", "transformer"];

interface FileFacts {
  /** Name on disk, without folders. */
  readonly file: string;
  readonly bytes: number;
  /** Hexadecimal, lower case; undefined where no hash is known to us. */
  readonly sha256?: string;
  readonly licence: string;
}

/** A file on a model hub: `path` in `repository` at `revision` (a commit, or a branch). */
export interface HubFile extends FileFacts {
  readonly repository: string;
  readonly path: string;
  readonly revision: string;
}

/** A file inside qedit's own package; `embedded` is its path from the package's root. */
export interface EmbeddedFile extends FileFacts {
  readonly embedded: string;
}

/** A published file. */
export type PublishedFile = HubFile | EmbeddedFile;

/** The numbers with which a model is meant to be sampled. */
export interface SamplingNumbers {
  readonly steps: number;
  readonly cfg: number;
  readonly sampler: string;
  readonly scheduler: string;
  readonly shift: number;
  readonly cfgNorm: number;
  /** Size of the result where the model was not made for one megapixel, in units of 1024². */
  readonly megapixels?: number;
  /** What the transformer computes in on any device, where bfloat16 is too coarse for it. */
  readonly dtype?: string;
}

/** Numbers, and the LoRA that they are meant for, under one name. */
export interface Preset extends Partial<SamplingNumbers> {
  readonly summary: string;
  /** Name of one of the model's LoRAs. */
  readonly lora?: string;
}

/** A published model. */
export interface PublishedModel {
  readonly name: string;
  readonly summary: string;
  readonly licence: string;
  readonly files: Readonly<Record<FileRole, PublishedFile>>;
  readonly loras: Readonly<Record<string, PublishedFile>>;
  readonly defaults: SamplingNumbers;
  readonly presets: Readonly<Record<string, Preset>>;
}

/** All of models.json. */
export interface Catalog {
  readonly default: string;
  readonly models: ReadonlyMap<string, PublishedModel>;
}

/** Where a value stands, for messages, and the files defined once for all models. */
interface Context {
  readonly source: string;
  readonly shared: Readonly<Record<string, unknown>>;
}

/** Reads a catalogue from parsed JSON; throws QEDIT_E_USAGE, naming `source` and the field, for anything out of form. */
export function parseCatalog(json: unknown, source: string): Catalog {
  const place = { source, shared: {} };
  const root = record(json, "the catalogue", place);
  const context = { source, shared: record(root["files"] ?? {}, "files", place) };
  const models = new Map(
    Object.entries(record(root["models"], "models", context)).map(([name, model]) => [
      name,
      parseModel(name, model, context),
    ]),
  );
  const first = text(root["default"], "default", context);
  if (!models.has(first)) throw refusal("default", "the name of one of its models", first, context);
  return { default: first, models };
}

function parseModel(name: string, json: unknown, context: Context): PublishedModel {
  const at = `models.${name}`;
  const model = record(json, at, context);
  const files = record(model["files"], `${at}.files`, context);
  const loras = entries(model["loras"], `${at}.loras`, context, (value, place) => parseFile(value, place, context));
  const presets = entries(model["presets"], `${at}.presets`, context, (value, place) =>
    parsePreset(value, { at: place, loras, context }),
  );
  const file = (role: FileRole) => parseFile(files[role], `${at}.files.${role}`, context);
  return {
    name,
    summary: text(model["summary"], `${at}.summary`, context),
    licence: text(model["licence"], `${at}.licence`, context),
    files: { vae: file("vae"), textEncoder: file("textEncoder"), transformer: file("transformer") },
    loras,
    defaults: parseDefaults(record(model["defaults"], `${at}.defaults`, context), `${at}.defaults`, context),
    presets,
  };
}

// A file in place, or the name of one defined once under "files".
function parseFile(json: unknown, at: string, context: Context): PublishedFile {
  if (typeof json === "string") {
    const shared = context.shared[json];
    if (shared === undefined) throw refusal(at, 'a file, or the name of one under "files"', json, context);
    return parseFile({ file: json, ...record(shared, `files.${json}`, context) }, `files.${json}`, context);
  }
  const value = record(json, at, context);
  const sha256 = value["sha256"];
  if (sha256 !== undefined && !(typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256))) {
    throw refusal(`${at}.sha256`, "64 hexadecimal digits in lower case", sha256, context);
  }
  const facts = {
    file: fileName(value["file"], `${at}.file`, context),
    bytes: count(value["bytes"], `${at}.bytes`, context),
    licence: text(value["licence"], `${at}.licence`, context),
    ...(sha256 === undefined ? {} : { sha256 }),
  };
  if (value["embedded"] !== undefined)
    return { ...facts, embedded: innerPath(value["embedded"], `${at}.embedded`, context) };
  const repository = text(value["repository"], `${at}.repository`, context);
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository)) throw refusal(`${at}.repository`, "OWNER/NAME", repository, context);
  return {
    ...facts,
    repository,
    path: innerPath(value["path"], `${at}.path`, context),
    revision: innerPath(value["revision"], `${at}.revision`, context),
  };
}

function parsePreset(json: unknown, { at, loras, context }: { at: string; loras: object; context: Context }): Preset {
  const value = record(json, at, context);
  const { lora } = value;
  if (lora !== undefined && !(typeof lora === "string" && Object.hasOwn(loras, lora)))
    throw refusal(`${at}.lora`, "the name of one of the model's loras", lora, context);
  const present = Object.fromEntries(Object.entries(value).filter(([key]) => key !== "summary" && key !== "lora"));
  return {
    summary: text(value["summary"], `${at}.summary`, context),
    ...(lora === undefined ? {} : { lora }),
    ...parseNumbers(present, at, context, Object.keys(present)),
  };
}

function parseDefaults(value: Readonly<Record<string, unknown>>, at: string, context: Context): SamplingNumbers {
  const wanted = [
    ...SAMPLING,
    "sampler",
    "scheduler",
    ...["megapixels", "dtype"].filter((key) => value[key] !== undefined),
  ];
  return parseNumbers(value, at, context, wanted) as SamplingNumbers;
}

const SAMPLING = ["steps", "cfg", "shift", "cfgNorm"];
const NUMBERS = [...SAMPLING, "megapixels"];
const WORDS = ["sampler", "scheduler", "dtype"];

function parseNumbers(
  value: Readonly<Record<string, unknown>>,
  at: string,
  context: Context,
  wanted: readonly string[],
): Partial<SamplingNumbers> {
  const parsed = wanted.map((key): [string, string | number] => {
    if (WORDS.includes(key)) return [key, text(value[key], `${at}.${key}`, context)];
    const found = value[key];
    if (NUMBERS.includes(key) && typeof found === "number" && found >= 0) return [key, found];
    throw refusal(
      `${at}.${key}`,
      NUMBERS.includes(key) ? "a number" : `one of ${[...NUMBERS, ...WORDS].join(", ")}`,
      found,
      context,
    );
  });
  return Object.fromEntries(parsed);
}

function entries<T>(
  json: unknown,
  at: string,
  context: Context,
  parse: (value: unknown, at: string) => T,
): Readonly<Record<string, T>> {
  return Object.fromEntries(
    Object.entries(record(json ?? {}, at, context)).map(([name, value]) => [name, parse(value, `${at}.${name}`)]),
  );
}

function record(value: unknown, at: string, context: Context): Readonly<Record<string, unknown>> {
  if (isObject(value)) return value;
  throw refusal(at, "an object", value, context);
}

function text(value: unknown, at: string, context: Context): string {
  if (typeof value === "string" && value !== "") return value;
  throw refusal(at, "a text", value, context);
}

function count(value: unknown, at: string, context: Context): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  throw refusal(at, "a whole number above 0", value, context);
}

// A name that cannot leave the folder it is put in.
function fileName(value: unknown, at: string, context: Context): string {
  const name = text(value, at, context);
  if (/[/\\:\0]/.test(name) || name.startsWith(".")) throw refusal(at, "a file name without folders", name, context);
  return name;
}

// A path with forward slashes that stays below where it starts.
function innerPath(value: unknown, at: string, context: Context): string {
  const path = text(value, at, context);
  const steps = path.split("/");
  if (/[\\:\0]/.test(path) || steps.some((step) => step === "" || step === "." || step === "..")) {
    throw refusal(at, "a path below its folder", path, context);
  }
  return path;
}

function refusal(at: string, wanted: string, found: unknown, { source }: Context): QeditError {
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${source}: ${at} is ${JSON.stringify(found) ?? "missing"}, ${wanted} is wanted`,
  );
}
