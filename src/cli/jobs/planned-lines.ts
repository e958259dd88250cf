// Resolves the jobs of a batch, and finds out which of them were done before.
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { cacheKey } from "../../artifacts/artifact-cache.js";
import { fileName } from "../../edit/parameters/parameter.js";
import type { ModelLibrary } from "../../edit/resolve/model-library.js";
import { type EditFiles, type ResolvedEdit, resolveEdit } from "../../edit/resolve/resolve-edit.js";
import type { Unresolved } from "../../edit/resolve/resolve-settings.js";
import { refuseNoPicture } from "../../edit/resolve/without-picture.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { fileHash } from "../../std/file-hash.js";
import { folderFor } from "../../std/own-folders.js";
import { refuseJobStreams } from "../files/input.js";
import { generatedPath, pictureEncoding, picturePath, refuseUselessQuality } from "../files/picture-output.js";
import { withPromptOfFile } from "../files/prompt-file.js";
import { completeSettings, type GivenSetting } from "../settings/settings.js";
import { type JobLine, jobName } from "./job-lines.js";
import type { Journal } from "./journal.js";
import { type RunSettings, runOptions } from "./run-options.js";

/** A resolved job. */
export interface PlannedLine {
  readonly line: number;
  readonly index: number;
  readonly name: string;
  readonly images: readonly string[];
  readonly values: RunSettings;
  /** The edit with its model files open, for this process; undefined: a server makes it. */
  readonly resolved: ResolvedEdit | undefined;
  readonly path: string;
  /** Hash of everything that determines the result: settings, and size and mtime of the input pictures. */
  readonly content: string;
}

/** An invalid line with its error. */
export interface FaultyLine {
  readonly line: number;
  readonly index: number;
  readonly name: string;
  readonly path: string | undefined;
  readonly error: QeditError;
}

/** Settings that do not affect the picture. */
const IRRELEVANT: ReadonlySet<string> = new Set<keyof RunSettings>([
  "output",
  "force",
  "keep",
  "device",
  "threads",
  "noCache",
  "cacheLimit",
  "modelsDir",
  "allowEmptyPrompt",
]);

/** A job's settings, resolved, and its model files. */
export interface OpenedLine {
  readonly values: RunSettings;
  readonly resolved: ResolvedEdit | undefined;
  /** Undefined: a server finds them by the names in the settings. */
  readonly files: EditFiles | undefined;
}

/** Options of planLines. */
interface Planning {
  /** Settings of the command line. */
  readonly defaults: ReadonlyMap<string, GivenSetting>;
  /** Resolves the settings of a job; opens its model files where this process makes it. */
  readonly open: (unresolved: Unresolved<RunSettings>) => Promise<OpenedLine>;
  readonly emit: Emit;
}

/** Opens the model files of jobs that this process makes. */
export function openLine(library: ModelLibrary): Planning["open"] {
  return async (unresolved) => {
    const { values, ...resolved } = await resolveEdit(unresolved, library);
    return { values, resolved, files: resolved.files };
  };
}

/** Resolves jobs; `defaults` apply to settings that a job does not have. */
export async function planLines(lines: readonly JobLine[], planning: Planning): Promise<(PlannedLine | FaultyLine)[]> {
  const planned: (PlannedLine | FaultyLine)[] = [];
  for (const each of lines) planned.push(await planLine(each, planning));
  return planned;
}

/** Whether a line is a resolved job. */
export function isPlanned(line: PlannedLine | FaultyLine): line is PlannedLine {
  return "values" in line;
}

async function planLine(
  { line, index, images, given: own, fault }: JobLine,
  { defaults, open, emit }: Planning,
): Promise<PlannedLine | FaultyLine> {
  const place = { line, index };
  let path: string | undefined;
  try {
    if (fault) throw fault;
    const named = await withPromptOfFile(own);
    const given = new Map([...[...defaults].filter(([name]) => name in runOptions), ...named]);
    const unresolved = completeSettings(runOptions, given);
    refuseJobStreams([...images, unresolved.prompt, unresolved.mask, unresolved.output]);
    await refuseNoPicture(images.length, unresolved);
    path = images[0] === undefined ? generatedPath(unresolved, line) : picturePath(unresolved, images[0], "-edit");
    refuseUselessQuality(pictureEncoding(path, unresolved).format, own);
    // A folder of all jobs holds one for each.
    const keep = unresolved.keep && !own.has("keep") ? join(unresolved.keep, jobName(path)) : unresolved.keep;
    const settings = { ...unresolved, keep };
    const { values, resolved, files } = await open({ settings, given, force: unresolved.force, emit });
    const content = await contentOf(values, files, images);
    return { ...place, name: jobName(path), images, values, resolved, path, content };
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    return { ...place, name: path === undefined ? `line ${line}` : jobName(path), path, error };
  }
}

// Hashes the paths of model files that were found, not the names that were given.
async function contentOf(
  values: RunSettings,
  found: EditFiles | undefined,
  images: readonly string[],
): Promise<string> {
  const { vae, textEncoder, transformer } = found ?? values;
  const lora = found?.loras.map(({ path, strength }) => `${path}:${strength}`) ?? values.lora;
  const relevant = Object.entries({ ...values, vae, textEncoder, transformer, lora }).filter(
    ([name, value]) => !IRRELEVANT.has(name) && value !== undefined,
  );
  const named = relevant.map(
    ([name, value]) => [fileName(name), typeof value === "bigint" ? String(value) : value] as const,
  );
  const read = [...images, ...(values.mask === undefined ? [] : [values.mask])];
  const files = await Promise.all(
    read.map((path) =>
      stat(path).then(
        ({ size, mtimeMs }) => [resolve(path), size, mtimeMs],
        () => [resolve(path)],
      ),
    ),
  );
  return cacheKey({ settings: Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1))), files });
}

/** State of a job's result from earlier runs, see resultState. */
export type ResultState = "done" | "changed" | "ours" | "nothing";

/**
 * The state of a job's result. "done": an earlier run of the same job wrote the file. "changed": it did, but the file was changed afterwards.
 * "ours": the file is the result of an earlier version of the job. "nothing": none of these.
 */
export async function resultState(
  { path, content }: Pick<PlannedLine, "path" | "content">,
  journal: Journal,
): Promise<ResultState> {
  const made = journal.made(resolve(path));
  const found = made?.hash === undefined ? undefined : await stat(path).catch(() => undefined);
  if (made === undefined || !found?.isFile()) return "nothing";
  const hash = await fileHash(path);
  if (made.content === content && hash === made.hash) return "done";
  if (journal.hashes(resolve(path)).has(hash)) return "ours";
  return made.content === content && made.state === "done" ? "changed" : "nothing";
}

/** The path of a batch's journal, by the path of its jobs file, or for stdin by the working directory. */
export function journalPath(jobs: string): string {
  return join(folderFor("state"), "batches", `${cacheKey({ jobs })}.jsonl`);
}

/** The text of a jobs file, or of a pipe of that name. Throws QEDIT_E_USAGE if it cannot be read. */
export async function readJobsFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such file" : (cause as Error).message;
    throw new QeditError("QEDIT_E_USAGE", `Cannot read the jobs in ${path}: ${reason}`, {
      hint: "Name a file with one job a line, or - for stdin",
      cause,
    });
  }
}
