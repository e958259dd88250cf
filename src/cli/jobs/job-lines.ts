// jobs.jsonl: one job a line, strictly read. A job's keys are `images` and the options of run by the name of their flag.
import { access } from "node:fs/promises";
import { basename, extname, isAbsolute, relative, resolve } from "node:path";
import { parseLora } from "../../stages/networks/loras.js";
import type { Option, OptionTable } from "../../stages/option.js";
import { closest } from "../../std/closest.js";
import { QeditError } from "../../std/errors.js";
import { cacheOptions, flagsOf } from "../settings/options.js";
import type { Given } from "../settings/settings.js";
import { runOptions } from "./edit-job.js";

/** A job as its line says it, or why the line is none. */
export interface JobLine {
  /** Line of the file, from 1. */
  readonly line: number;
  /** Its place among the jobs, from 1. */
  readonly index: number;
  /** Paths of the pictures; relative ones are taken from the file's folder. */
  readonly images: readonly string[];
  /** The settings it gives, by name. */
  readonly given: ReadonlyMap<string, Given>;
  readonly fault: QeditError | undefined;
}

const IMAGES = "images";

/** The engine and the cache are one for all jobs. */
const SHARED = new Set<string>(["device", "threads", ...Object.keys(cacheOptions)]);

const OPTIONS: readonly (readonly [key: string, name: string, option: Option<unknown>])[] = Object.entries(
  runOptions as OptionTable,
).flatMap(([name, option]) => flagsOf(option).longs.map((long) => [long.slice(2), name, option] as const));

const EXAMPLE = '{"images": ["photo.jpg"], "prompt": "make it winter", "output": "winter.png"}';

/** The jobs of a text. Lines that are empty are none; one that cannot be read is a job with a fault. */
export async function readJobs(text: string, folder: string): Promise<JobLine[]> {
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
  const given = new Map<string, Given>();
  for (const [key, value] of Object.entries(job)) {
    if (key === IMAGES) continue;
    const [, name, option] = OPTIONS.find(([each]) => each === key) ?? unknown(key, place);
    if (SHARED.has(name))
      throw refused(
        place,
        `"${key}" holds for the whole batch`,
        `Give it on the command line: qedit batch … --${key} …`,
      );
    if (given.has(name)) throw refused(place, `"${key}" is given twice, under two names`, "Leave one of them out");
    given.set(name, {
      value: await located(valueOf(value, { key, option, place }), option, place),
      layer: "job",
      name: `"${key}" in line ${place.line}`,
    });
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
  const keys = [IMAGES, ...OPTIONS.map(([each]) => each)];
  const meant =
    key.toLowerCase() === "image" || key.toLowerCase() === "input"
      ? IMAGES
      : (closest(key, keys) ?? closest(key.replaceAll("_", "-").toLowerCase(), keys));
  throw refused(
    place,
    `"${key}" is no option of run`,
    meant === undefined ? "`qedit run --help` lists the options" : `Did you mean "${meant}"?`,
  );
}

function imagesOf(images: unknown, place: Place): string[] {
  const isList =
    Array.isArray(images) && images.length > 0 && images.every((each) => typeof each === "string" && each !== "");
  if (!isList) throw refused(place, `"${IMAGES}" must be a list of paths`, `Write, for example, ${EXAMPLE}`);
  return (images as string[]).map((path) => shown(resolve(place.folder, path)));
}

// Texts and numbers go through the option's own reading, so that a job may say what a flag may.
function valueOf(
  value: unknown,
  { key, option, place }: { key: string; option: Option<unknown>; place: Place },
): unknown {
  const { parse, initial } = option;
  if (!parse) {
    if (typeof value === "boolean") return value;
    throw refused(place, `"${key}" is ${JSON.stringify(value)}: true or false is wanted`);
  }
  const isRepeatable = Array.isArray(initial);
  if (Array.isArray(value) && !isRepeatable) throw refused(place, `"${key}" is a list: one value is wanted`);
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values.reduce((before, each) => parseOne(each, before), initial);

  function parseOne(each: unknown, before: unknown): unknown {
    if (typeof each === "number" && Number.isInteger(each) && !Number.isSafeInteger(each)) {
      throw refused(
        place,
        `"${key}" is ${each}, more digits than a JSON number holds`,
        `Write it as a text: "${key}": "…"`,
      );
    }
    if (typeof each !== "string" && typeof each !== "number")
      throw refused(place, `"${key}" is ${JSON.stringify(each)}: a text or a number is wanted`);
    try {
      return parse!(String(each), before);
    } catch (error) {
      throw error instanceof QeditError ? refused(place, error.message, error.hint) : error;
    }
  }
}

// Paths are taken from the file's folder; a model file that is not there may still lie in a models folder.
async function located(value: unknown, option: Option<unknown>, { folder }: Place): Promise<unknown> {
  if (!/^\s<(file|folder)/.test(flagsOf(option).argument)) return value;
  const one = async (path: string): Promise<string> => {
    const at = resolve(folder, path);
    if (option.group !== "Models") return shown(at);
    return (await access(parseLora(at).path).then(
      () => true,
      () => false,
    ))
      ? at
      : path;
  };
  return Array.isArray(value) ? Promise.all((value as string[]).map(one)) : one(value as string);
}

// As short as it can be said from here.
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") || isAbsolute(short) ? path : short;
}

function refused({ line }: Place, reason: string, hint?: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use line ${line}: ${reason}`, hint === undefined ? {} : { hint });
}

/** What a job is called where people read it. */
export function jobName(path: string): string {
  return basename(path, extname(path));
}
