// Parses jobs.jsonl strictly: one job per line. Keys are `images` and the parameters of run, with dashes or underscores.
import { access } from "node:fs/promises";
import { basename, extname, isAbsolute, relative, resolve } from "node:path";
import { fileName, jsonName, type Parameter, readValue } from "../../edit/parameters/parameter.js";
import { parseLora } from "../../stages/networks/loras.js";
import { closest } from "../../std/closest.js";
import { QeditError, type Spell, spelled } from "../../std/errors.js";
import { type GivenSetting, givenBy } from "../settings/settings.js";
import { cacheOptions } from "../settings/shared-options.js";
import { runOptions } from "./run-options.js";

/** A parsed job line, or its error. */
export interface JobLine {
  /** Line of the file, from 1. */
  readonly line: number;
  /** Number of the job, from 1. */
  readonly index: number;
  /** Paths of the pictures, resolved against the file's folder. */
  readonly images: readonly string[];
  /** Its settings by name. */
  readonly given: ReadonlyMap<string, GivenSetting>;
  readonly fault: QeditError | undefined;
}

const IMAGES = "images";

/** Parameters that cannot be set per job: all jobs share the engine and the cache. */
const SHARED = new Set<string>(["device", "threads", ...Object.keys(cacheOptions)]);

/** Setting name and parameter by key, including aliases. */
const PARAMETERS: ReadonlyMap<string, readonly [name: string, parameter: Parameter<unknown>]> = new Map(
  Object.entries(runOptions).flatMap(([name, parameter]) => {
    const aliases: readonly string[] = parameter.aliases ?? [];
    return [fileName(name), jsonName(name), ...aliases].map((key) => [key, [name, parameter]] as const);
  }),
);

const EXAMPLE = '{"images": ["photo.jpg"], "prompt": "make it winter", "output": "winter.png"}';

/** Characters of a text by which it is known to be one. */
const LOOKED_AT = 4096;

/** Parses the jobs of a text. Skips empty lines; an invalid line is a job with a fault. Throws QEDIT_E_USAGE if there are no jobs. */
export async function readJobs(text: string, folder: string): Promise<JobLine[]> {
  // No text that people write holds NUL; U+FFFD stands for bytes that are not UTF-8.
  if (/[\0\ufffd]/.test(text.slice(0, LOOKED_AT)))
    throw new QeditError("QEDIT_E_USAGE", "Cannot read the jobs: this is not a text in UTF-8", {
      hint: `A jobs file has one job a line, such as ${EXAMPLE}; a picture is edited by qedit run`,
    });
  const jobs: JobLine[] = [];
  for (const [at, written] of text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .entries()) {
    if (written.trim() === "") continue;
    const place = { line: at + 1, index: jobs.length + 1 };
    try {
      jobs.push({ ...place, ...(await readJob(written, { line: place.line, folder })), fault: undefined });
    } catch (error) {
      if (!(error instanceof QeditError)) throw error;
      jobs.push({ ...place, images: [], given: new Map(), fault: error });
    }
  }
  if (jobs.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "There is no job: every line is empty", {
      hint: `A job is a line such as ${EXAMPLE}`,
    });
  return jobs;
}

interface Place {
  readonly line: number;
  readonly folder: string;
}

async function readJob(written: string, place: Place): Promise<Pick<JobLine, "images" | "given">> {
  const job = parsed(written, place);
  const given = new Map<string, GivenSetting>();
  for (const [key, value] of Object.entries(job)) {
    if (key === IMAGES) continue;
    const [name, parameter] = PARAMETERS.get(key) ?? unknown(key, place);
    if (SHARED.has(name)) {
      const hint = `Give it on the command line: qedit batch … --${fileName(name)} …`;
      throw refused(place, `"${key}" holds for the whole batch`, hint);
    }
    if (given.has(name)) throw refused(place, `"${key}" is given twice, under two names`, "Leave one of them out");
    const read = await located(readKey(key, value, { name, parameter, place }), parameter, place);
    given.set(name, givenBy("job", `"${key}" in line ${place.line}`, read));
  }
  return { images: imagesOf(job[IMAGES], place), given };
}

function parsed(written: string, place: Place): Record<string, unknown> {
  try {
    const job: unknown = JSON.parse(written);
    if (typeof job === "object" && job !== null && !Array.isArray(job)) return job as Record<string, unknown>;
  } catch (error) {
    throw refused(
      place,
      `it is not JSON (${(error as Error).message})`,
      `Write one object in a line, such as ${EXAMPLE}`,
    );
  }
  throw refused(place, "it is not a JSON object", `Write one object in a line, such as ${EXAMPLE}`);
}

function unknown(key: string, place: Place): never {
  const keys = [IMAGES, ...PARAMETERS.keys()];
  const isPicture = ["image", "input"].includes(key.toLowerCase());
  const meant = isPicture ? IMAGES : (closest(key, keys) ?? closest(key.toLowerCase(), keys));
  throw refused(
    place,
    `"${key}" is no parameter of run`,
    meant === undefined ? "`qedit run --help` lists the parameters" : `Did you mean "${meant}"?`,
  );
}

function imagesOf(images: unknown, place: Place): string[] {
  // A model that needs no picture makes one of the prompt alone.
  if (images === undefined) return [];
  const isList = Array.isArray(images) && images.every((each) => typeof each === "string" && each !== "");
  if (!isList) throw refused(place, `"${IMAGES}" must be a list of paths`, `Write, for example, ${EXAMPLE}`);
  return (images as string[]).map((path) => shown(resolve(place.folder, path)));
}

interface Key {
  readonly name: string;
  readonly parameter: Parameter<unknown>;
  readonly place: Place;
}

function readKey(key: string, value: unknown, { name, parameter, place }: Key): unknown {
  try {
    return readValue(name, parameter, value);
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    const asKey: Spell = () => `"${key}"`;
    throw refused(place, spelled(error.marked.message, asKey), error.marked.hint);
  }
}

// Resolves paths against the jobs file's folder. A model file that is not there is left as a name to search in model folders.
async function located(value: unknown, parameter: Parameter<unknown>, { folder }: Place): Promise<unknown> {
  if (!/^<(file|folder)/.test(parameter.placeholder ?? "")) return value;
  const one = async (path: string): Promise<string> => {
    const at = resolve(folder, path);
    // A slash at the end means a name in that folder.
    if (parameter.group !== "Models") return `${shown(at)}${/[/\\]$/.test(path) ? "/" : ""}`;
    return (await access(parseLora(at).path).then(
      () => true,
      () => false,
    ))
      ? at
      : path;
  };
  return Array.isArray(value) ? Promise.all((value as string[]).map(one)) : one(value as string);
}

// Relative to the working directory if it is inside it.
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") || isAbsolute(short) ? path : short;
}

function refused({ line }: Place, reason: string, hint?: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use line ${line}: ${reason}`, hint === undefined ? {} : { hint });
}

/** A job's name in messages. */
export function jobName(path: string): string {
  return basename(path, extname(path));
}
