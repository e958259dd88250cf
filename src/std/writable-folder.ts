// Whether a file could be written, before it is made.
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { ioFailure } from "./files.js";

/** Throws QEDIT_E_IO if the folder of a path cannot be written to, or the nearest one above it that is there. */
export async function checkFolder(path: string): Promise<void> {
  let folder = dirname(resolve(path));
  while (!(await stat(folder).catch(() => undefined)) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    if (!(await stat(folder)).isDirectory()) throw Object.assign(new Error("not a folder"), { code: "ENOTDIR" });
    await access(folder, constants.W_OK);
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}
