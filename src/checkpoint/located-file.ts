// A weights file, found and opened once for its header.
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { QeditError } from "../std/errors.js";
import { ioFailure } from "../std/files.js";

/** What is being read: its name for messages, its absolute path with links resolved, its length in bytes. */
export interface Source {
  readonly name: string;
  readonly file: string;
  readonly size: number;
}

/** Opens a regular file for `read`. Throws QEDIT_E_MODEL_MISSING when there is none, QEDIT_E_CHECKPOINT for what is none, QEDIT_E_IO, and what `read` throws. */
export async function withLocated<T>(
  path: string,
  read: (handle: FileHandle, source: Source) => Promise<T>,
): Promise<T> {
  try {
    const source = await locate(path);
    const handle = await open(source.file);
    try {
      return await read(handle, source);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", path, error);
  }
}

async function locate(path: string): Promise<Source> {
  const refuse = (reason: string, hint: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${path}: ${reason}`, { hint });
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw refuse("it is a folder", "Name the .safetensors file in it");
    if (!found.isFile()) throw refuse("it is not a regular file", "Name the .safetensors file itself");
    return { name: path, file: await realpath(path), size: found.size };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${path}`, { hint: "Check the path", cause: error });
    throw error;
  }
}
