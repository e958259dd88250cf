// What the jobs of a batch write and read: no job touches a file of another, because in which order they read and write depends on memory, and on where they are made.
import { QeditError } from "../../std/errors.js";
import { realFile } from "../files/shared-paths.js";
import { type FaultyLine, isPlanned, type PlannedLine } from "./planned-lines.js";

type Line = PlannedLine | FaultyLine;

/**
 * The jobs, of which each fails that writes what an earlier one reads or writes, through links too, or reads what an earlier one writes; the earlier one is done.
 * Pictures may be read by many jobs, and a job may replace what it reads itself.
 */
export async function withOwnFiles(lines: readonly Line[]): Promise<Line[]> {
  const taken: Taken = { written: new Map(), read: new Map() };
  const own: Line[] = [];
  for (const line of lines) {
    const files = await filesOf(line);
    const error = conflictOf(line, files, taken);
    if (error === undefined) take(line, files, taken);
    own.push(error === undefined ? line : { ...placeOf(line), name: `line ${line.line}`, path: undefined, error });
  }
  return own;
}

/** The first line that writes, and the first that reads a file, by its real path. */
interface Taken {
  readonly written: Map<string, number>;
  readonly read: Map<string, number>;
}

interface JobFile {
  readonly key: "output" | "keep" | "images" | "mask";
  readonly path: string;
  readonly real: string;
}

/** The files of a job by their real paths: devices and pipes are none. */
interface JobFiles {
  readonly written: readonly JobFile[];
  readonly read: readonly JobFile[];
}

async function filesOf(line: Line): Promise<JobFiles> {
  const found = async (key: JobFile["key"], paths: readonly (string | undefined)[]) => {
    const files: JobFile[] = [];
    for (const path of paths) {
      const real = path === undefined ? undefined : await realFile(path);
      if (real !== undefined) files.push({ key, path: path!, real });
    }
    return files;
  };
  const written = await found("output", [line.path]);
  if (!isPlanned(line)) return { written, read: [] };
  return {
    written: [...written, ...(await found("keep", [line.values.keep]))],
    read: [...(await found("images", line.images)), ...(await found("mask", [line.values.mask]))],
  };
}

function conflictOf({ line }: Line, files: JobFiles, taken: Taken): QeditError | undefined {
  for (const { key, path, real } of files.written) {
    const own = `Give each job ${key === "keep" ? "a" : "an"} "${key}" of its own`;
    const writer = taken.written.get(real);
    if (writer !== undefined)
      return refusal(`Cannot write ${path} twice: line ${writer} and line ${line} both make it`, own);
    const reader = taken.read.get(real);
    if (reader !== undefined) return refusal(`Cannot write ${path}: line ${reader} reads it`, own);
  }
  for (const { path, real } of files.read) {
    const writer = taken.written.get(real);
    if (writer !== undefined)
      return refusal(
        `Cannot read ${path}: line ${writer} makes it`,
        "Put the job into a jobs file of its own, and run that one after this",
      );
  }
  return undefined;
}

function take({ line }: Line, files: JobFiles, taken: Taken): void {
  for (const kind of ["written", "read"] as const)
    for (const { real } of files[kind]) if (!taken[kind].has(real)) taken[kind].set(real, line);
}

function placeOf({ line, index }: Line): Pick<Line, "line" | "index"> {
  return { line, index };
}

function refusal(message: string, hint: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", message, { hint });
}
