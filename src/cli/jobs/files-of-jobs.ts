// What the jobs of a list write and read: no job touches a file of another, because in which order they read and write depends on memory, and on where they are made.
import { QeditError } from "../../std/errors.js";
import { realFile } from "../files/shared-paths.js";

/** Paths of a job of a list. */
export interface JobPaths {
  /** Line of the list, from 1. */
  readonly line: number;
  readonly output: string | undefined;
  /** Folder of its tensor files. */
  readonly keep?: string | undefined;
  /** Its pictures and its mask. */
  readonly read: readonly string[];
}

/** The files of the jobs so far. Pictures may be read by many jobs, and a job may replace what it reads itself. */
export class OwnFiles {
  /** The first line that writes a file, by its real path. */
  readonly #written = new Map<string, number>();
  readonly #read = new Map<string, number>();

  /**
   * Takes the files of a job. Returns QEDIT_E_USAGE, and takes none, if it writes what an earlier one reads or writes, through links too, or reads what an earlier
   * one writes.
   */
  async take({ line, output, keep, read }: JobPaths): Promise<QeditError | undefined> {
    const [written, inputs] = [await filesOf({ output, keep }), await filesOf(read)];
    const conflict = this.#conflictOf(line, written, inputs);
    if (conflict !== undefined) return conflict;
    for (const { real } of written) this.#written.set(real, line);
    for (const { real } of inputs) if (!this.#read.has(real)) this.#read.set(real, line);
    return undefined;
  }

  #conflictOf(line: number, written: readonly JobFile[], inputs: readonly JobFile[]): QeditError | undefined {
    for (const { key, path, real } of written) {
      const own = `Give each job ${key === "keep" ? "a" : "an"} "${key}" of its own`;
      const [writer, reader] = [this.#written.get(real), this.#read.get(real)];
      if (writer !== undefined)
        return refusal(`Cannot write ${path} twice: line ${writer} and line ${line} both make it`, own);
      if (reader !== undefined) return refusal(`Cannot write ${path}: line ${reader} reads it`, own);
    }
    for (const { path, real } of inputs) {
      const writer = this.#written.get(real);
      if (writer !== undefined)
        return refusal(
          `Cannot read ${path}: line ${writer} makes it`,
          "Put the job into another list, and run that one after this",
        );
    }
    return undefined;
  }
}

interface JobFile {
  readonly key: string;
  readonly path: string;
  readonly real: string;
}

// Devices and pipes are none.
async function filesOf(paths: Readonly<Record<string, string | undefined>> | readonly string[]): Promise<JobFile[]> {
  const files: JobFile[] = [];
  for (const [key, path] of Object.entries(paths)) {
    const real = path === undefined ? undefined : await realFile(path);
    if (real !== undefined) files.push({ key, path: path!, real });
  }
  return files;
}

function refusal(message: string, hint: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", message, { hint });
}
