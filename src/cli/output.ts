// Looking at where a result goes before minutes are spent on making it.
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { QeditError } from "../errors.js";
import { ioFailure } from "../files.js";

/** Throws QEDIT_E_IO when the path is a folder, or the nearest folder above it that exists cannot be written to. */
export async function refuseUnwritable(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) throw new QeditError("QEDIT_E_IO", `Cannot write ${path}: it is a folder`, { hint: `Name a file: -o ${path}/out.png` });
  if (found && !found.isFile()) return;
  let folder = dirname(resolve(path));
  while (!(await stat(folder).catch(() => undefined)) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    if (!(await stat(folder)).isDirectory()) throw Object.assign(new Error("not a folder"), { code: "ENOTDIR" });
    await access(folder, constants.W_OK);
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}
