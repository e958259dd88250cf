// A folder that is there whole or not at all: it is written under a temporary name beside its place, and renamed at the end.
import { randomBytes } from "node:crypto";
import { access, lstat, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { param, QeditError } from "../../std/errors.js";
import { existsAlready, ioFailure, makeFolders } from "../../std/files.js";
import { isLeftover, processName } from "../../std/temporary-files.js";

/** `.qedit-a1b2c3d4-4711-0123456789abcdef.export`; what is replaced: the same with the folder's name, and `.old`. */
const LEFTOVER = /^\.qedit-([0-9a-f]{8}-\d+)-[0-9a-f]{16}(?:\.export|\.(.+)\.old)$/;
/** A folder of an unknown process is abandoned after so many milliseconds: a copy of weights takes an hour at most. */
const ABANDONED_AFTER = 24 * 3600_000;

/** How a folder is written. */
export interface WholeFolder {
  /** Whether a folder that is there is replaced. */
  readonly force: boolean;
  /** Name of the file that shows that a folder is of this kind: no other is replaced. */
  readonly mark: string;
}

/**
 * Writes a folder by `fill`, which is called with a temporary folder, and puts it in its place; also removes what killed exports left beside it.
 * Throws QEDIT_E_EXISTS when something is there and is not to be replaced, QEDIT_E_IO, and what `fill` throws; then nothing is left behind.
 */
export async function writeWholeFolder<T>(
  path: string,
  { force, mark }: WholeFolder,
  fill: (folder: string) => Promise<T>,
): Promise<T> {
  const target = resolve(path);
  const parent = dirname(target);
  try {
    await refuseOccupied(target, { path, force, mark });
    await makeFolders(parent);
    await sweep(parent);
    const made = join(parent, `${temporaryName()}.export`);
    try {
      await makeFolders(made);
      const result = await fill(made);
      await refuseOccupied(target, { path, force, mark });
      await (force ? replace(made, target) : place(made, target, path));
      return result;
    } catch (error) {
      await rm(made, { recursive: true, force: true });
      throw error;
    }
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

function temporaryName(): string {
  return `.qedit-${processName()}-${randomBytes(8).toString("hex")}`;
}

async function refuseOccupied(target: string, { path, force, mark }: WholeFolder & { path: string }): Promise<void> {
  const found = await lstat(target).catch(() => undefined);
  if (found === undefined) return;
  if (!force) throw existsAlready(path);
  const isEmpty = found.isDirectory() && (await readdir(target)).length === 0;
  const isMarked = await access(join(target, mark)).then(
    () => found.isDirectory(),
    () => false,
  );
  if (isEmpty || isMarked) return;
  throw new QeditError("QEDIT_E_EXISTS", `Cannot replace ${path}: it is no folder that qedit exported`, {
    hint: `Name another folder: ${param("force")} replaces only one that has ${mark}`,
  });
}

async function place(made: string, target: string, path: string): Promise<void> {
  await rename(made, target).catch((error: NodeJS.ErrnoException) => {
    // Made by another process meanwhile.
    if (["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(error.code ?? "")) throw existsAlready(path);
    throw error;
  });
}

// Systems rename a folder over an empty one only, so what is there goes aside first, and comes back when its place cannot be taken.
async function replace(made: string, target: string): Promise<void> {
  const aside = join(dirname(target), `${temporaryName()}.${basename(target)}.old`);
  const hasOld = await rename(target, aside).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );
  try {
    await rename(made, target);
  } catch (error) {
    if (hasOld) await rename(aside, target);
    throw error;
  }
  if (hasOld) await rm(aside, { recursive: true, force: true });
}

// Removes what exports that were killed left in a folder. One that was killed between two renames had moved the old folder away: it comes back.
async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const [, owner, old] = LEFTOVER.exec(name) ?? [];
    const path = join(parent, name);
    if (owner === undefined || !(await isLeftover(path, owner, ABANDONED_AFTER))) continue;
    const isMissing = old !== undefined && (await lstat(join(parent, old)).catch(() => undefined)) === undefined;
    if (isMissing) await rename(path, join(parent, old));
    else await rm(path, { recursive: true, force: true });
  }
}
