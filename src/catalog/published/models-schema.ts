// The form of models.json. What passes the schemas can be trusted, its paths included.
import * as v from "valibot";
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
  readonly sha256?: string | undefined;
  /** identity of its weights, as records have it; undefined where it is not known to us. */
  readonly identity?: string | undefined;
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
  /** "none": without CFGNorm. */
  readonly cfgNorm: number | "none";
  /** The noise levels of a model that was distilled for certain ones, falling, in place of steps, scheduler and shift; a last 0 may be left out. */
  readonly sigmas?: readonly number[] | undefined;
  /** Size of the result where the model was not made for one megapixel, in units of 1024². */
  readonly megapixels?: number | undefined;
  /** What the transformer computes in on any device, where bfloat16 is too coarse for it. */
  readonly dtype?: string | undefined;
}

type PresetNumbers = { readonly [Key in keyof SamplingNumbers]?: SamplingNumbers[Key] | undefined };

/** Numbers, and the LoRA that they are meant for, under one name. */
export interface Preset extends PresetNumbers {
  readonly summary: string;
  /** Name of one of the model's LoRAs. */
  readonly lora?: string | undefined;
}

/** A published model. */
export interface PublishedModel {
  readonly name: string;
  readonly summary: string;
  readonly licence: string;
  /** The family of its transformer, as src/models/transformers.ts names it. */
  readonly family: string;
  /** Whether it makes a picture of a prompt alone too. */
  readonly generates?: boolean | undefined;
  readonly files: Readonly<Record<FileRole, PublishedFile>>;
  readonly loras: Readonly<Record<string, PublishedFile>>;
  readonly defaults: SamplingNumbers;
  /** Where the defaults come from, in words. */
  readonly defaultsFrom?: string | undefined;
  readonly presets: Readonly<Record<string, Preset>>;
}

/** All of models.json. */
export interface Catalog {
  readonly default: string;
  readonly models: ReadonlyMap<string, PublishedModel>;
}

/** Reads a catalogue from parsed JSON; throws QEDIT_E_USAGE, naming `source` and the field, for anything out of form. */
export function parseCatalog(json: unknown, source: string): Catalog {
  const { files } = checked(withKeys({ files: v.optional(sharedFiles, {}) }), json, source);
  const root = checked(catalogSchema(files), json, source);
  const models = new Map(Object.entries(root.models).map(([name, model]) => [name, { name, ...model }]));
  if (!models.has(root.default))
    throw refusal({ at: "default", wanted: "the name of one of its models", found: root.default, source });
  for (const { name, loras, presets } of models.values()) {
    for (const [preset, { lora }] of Object.entries(presets)) {
      if (lora !== undefined && !Object.hasOwn(loras, lora))
        throw refusal({
          at: `models.${name}.presets.${preset}.lora`,
          wanted: "the name of one of the model's loras",
          found: lora,
          source,
        });
    }
  }
  return { default: root.default, models };
}

// A message says what is wanted; refusal makes a sentence of it.
const object = v.custom<Record<string, unknown>>(isObject, "an object");
const text = v.pipe(v.string("a text"), v.nonEmpty("a text"));
const amount = v.pipe(v.number("a number"), v.finite("a number"), v.minValue(0, "a number"));
const wholeNumber = "a whole number above 0";
const bytes = v.pipe(v.number(wholeNumber), v.safeInteger(wholeNumber), v.minValue(1, wholeNumber));
const sha256 = v.custom<string>(
  (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value),
  "64 hexadecimal digits in lower case",
);
/** A name that cannot leave the folder it is put in. */
const plainName = v.pipe(
  text,
  v.check((name) => !/[/\\:\0]/.test(name) && !name.startsWith("."), "a file name without folders"),
);
/** A path with forward slashes that stays below where it starts. */
const innerPath = v.pipe(
  text,
  v.check(
    (path) => !/[\\:\0]/.test(path) && !path.split("/").some((step) => ["", ".", ".."].includes(step)),
    "a path below its folder",
  ),
);
const repository = v.pipe(
  text,
  v.check((name) => /^[\w.-]+\/[\w.-]+$/.test(name) && !/(^|\/)\.\.?(\/|$)/.test(name), "OWNER/NAME"),
);

// A required key that is missing has the value undefined, so that its own schema says what is wanted there.
function withKeys<const Entries extends v.ObjectEntries>(
  entries: Entries,
): v.GenericSchema<unknown, v.InferOutput<v.ObjectSchema<Entries, undefined>>> {
  const required = Object.keys(entries).filter((key) => entries[key]!.type !== "optional");
  return v.pipe(
    object,
    v.transform((value) => ({
      ...Object.fromEntries(required.map((key) => [key, undefined])),
      ...value,
    })),
    v.object(entries),
  );
}

/** An object by names that the file chooses. */
function named<T>(schema: v.GenericSchema<unknown, T>) {
  return v.pipe(object, v.record(v.string(), schema));
}

const FACTS = { file: plainName, bytes, licence: text, sha256: v.optional(sha256), identity: v.optional(sha256) };
const file: v.GenericSchema<unknown, PublishedFile> = v.lazy((value) =>
  isObject(value) && value["embedded"] !== undefined
    ? withKeys({ ...FACTS, embedded: innerPath })
    : withKeys({ ...FACTS, repository, path: innerPath, revision: innerPath }),
);

/** Files that are defined once for all models, under their names on disk. */
const sharedFiles = v.pipe(
  named(object),
  v.transform(
    (files): Record<string, unknown> =>
      Object.fromEntries(Object.entries(files).map(([name, value]) => [name, { file: name, ...value }])),
  ),
  named(file),
);

const norm = v.union([amount, v.literal("none")], 'a number, or "none"');
const numbers = { steps: amount, cfg: amount, shift: amount, cfgNorm: norm, sampler: text, scheduler: text };
const falling = "numbers that fall from 1 to 0";
const levels = v.pipe(
  v.array(amount, falling),
  v.transform((given): readonly number[] => [...given.map(Math.fround), ...(given.at(-1) === 0 ? [] : [0])]),
  v.minLength(2, falling),
  v.check((given) => given[0]! <= 1 && given.every((level, at) => at === 0 || level < given[at - 1]!), falling),
);
const extras = { megapixels: v.optional(amount), dtype: v.optional(text), sigmas: v.optional(levels) };
const presetNumbers = {
  ...{ steps: v.optional(amount), cfg: v.optional(amount), shift: v.optional(amount), cfgNorm: v.optional(norm) },
  ...{ sampler: v.optional(text), scheduler: v.optional(text), ...extras },
};
const preset: v.GenericSchema<unknown, Preset> = v.pipe(
  object,
  v.transform((value) => ({ summary: undefined, ...value })),
  v.objectWithRest(
    { summary: text, lora: v.optional(text), ...presetNumbers },
    v.never(`one of ${Object.keys(presetNumbers).join(", ")}`),
  ),
);

function catalogSchema(shared: Readonly<Record<string, PublishedFile>>) {
  // A file in place, or the name of a shared one.
  const name = v.pipe(
    v.string(),
    v.check((value) => Object.hasOwn(shared, value), 'a file, or the name of one under "files"'),
    v.transform((value) => shared[value]!),
  );
  const someFile: v.GenericSchema<unknown, PublishedFile> = v.lazy((value) =>
    typeof value === "string" ? name : file,
  );
  const model = withKeys({
    summary: text,
    licence: text,
    family: v.optional(text, "Qwen-Image"),
    generates: v.optional(v.boolean("true or false")),
    files: withKeys({ vae: someFile, textEncoder: someFile, transformer: someFile }),
    loras: v.optional(named(someFile), {}),
    defaults: withKeys({ ...numbers, ...extras }),
    defaultsFrom: v.optional(text),
    presets: v.optional(named(preset), {}),
  });
  return withKeys({ default: text, models: named(model) });
}

function checked<T>(schema: v.GenericSchema<unknown, T>, json: unknown, source: string): T {
  const { success, output, issues } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const [issue] = issues;
  const at = v.getDotPath(issue) ?? "the catalogue";
  throw refusal({ at, wanted: issue.message, found: issue.input, source });
}

interface Refused {
  /** Path of the value in the document. */
  readonly at: string;
  readonly wanted: string;
  readonly found: unknown;
  readonly source: string;
}

function refusal({ at, wanted, found, source }: Refused): QeditError {
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${source}: ${at} is ${JSON.stringify(found) ?? "missing"}, ${wanted} is wanted`,
  );
}
