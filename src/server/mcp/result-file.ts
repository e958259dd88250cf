// Where the picture of a call goes. As on the command line: beside picture 1 unless a path is given, and no file is ever replaced.
import { stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { formatOfPath } from "../../edit/finish/picture-encoding.js";
import type { PictureFormat } from "../../image/io/write.js";
import { param, QeditError } from "../../std/errors.js";
import { writeFileAtomically } from "../../std/files.js";
import { checkFolder } from "../../std/writable-folder.js";

/** The file of a call's picture. */
export interface ResultFile extends Disposable {
  /** Absolute. */
  readonly path: string;
  readonly format: PictureFormat;
  /** Writes it. Throws QEDIT_E_EXISTS, QEDIT_E_IO. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
}

/** What decides the path. */
export interface ResultName {
  readonly output: string | undefined;
  /** Path or name of picture 1. */
  readonly input: string;
  /** Folder of results without a path of their own. */
  readonly folder: string;
  /** Value of the parameter `format`. */
  readonly format: string | undefined;
}

/** Names of free files that are tried for a hint. */
const MOST_TRIES = 1000;

/** Chooses and reserves the file of a call; `reserved` are those of others that run. Throws QEDIT_E_EXISTS, QEDIT_E_IO, QEDIT_E_USAGE for a name without a known format. */
export async function resultFile(name: ResultName, reserved: Set<string>): Promise<ResultFile> {
  const path = resolve(pathOf(name));
  const format = formatOfPath(path, name.format);
  // Before anything is waited for: calls may come at once.
  if (reserved.has(path)) throw await taken(path, reserved);
  reserved.add(path);
  try {
    if (await isThere(path)) throw await taken(path, reserved);
    await checkFolder(path);
  } catch (error) {
    reserved.delete(path);
    throw error;
  }
  return {
    path,
    format,
    async write(bytes) {
      try {
        await writeFileAtomically(path, bytes, { overwrite: false, hasPipes: false });
      } catch (error) {
        throw error instanceof QeditError && error.code === "QEDIT_E_EXISTS" ? await taken(path, reserved) : error;
      }
    },
    [Symbol.dispose]: () => void reserved.delete(path),
  };
}

function pathOf({ output, input, folder, format }: ResultName): string {
  if (output !== undefined && !/[/\\]$/.test(output)) return output;
  return join(output ?? folder, `${basename(input, extname(input))}-edit.${format ?? "png"}`);
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

async function taken(path: string, reserved: ReadonlySet<string>): Promise<QeditError> {
  const extension = extname(path);
  const stem = path.slice(0, path.length - extension.length);
  let free = path;
  for (let index = 2; index < MOST_TRIES && (reserved.has(free) || (await isThere(free))); index += 1)
    free = `${stem}-${index}${extension}`;
  return new QeditError("QEDIT_E_EXISTS", `Cannot write ${path}: it is there already, and no file is replaced`, {
    hint: `Name another file, such as ${param("output", JSON.stringify(join(dirname(free), basename(free))))}`,
    parameter: "output",
  });
}
