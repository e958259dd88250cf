// Free space on disks.
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { decimalSize } from "../../std/byte-sizes.js";
import { param, QeditError } from "../../std/errors.js";

/** Free bytes on the disk of a folder, which need not exist yet. Throws the error of statfs. */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!isMissing || dirname(folder) === folder) throw error;
    return freeBytes(dirname(folder));
  }
}

/** Throws QEDIT_E_IO when the disk has no space for so many bytes more of a file. */
export async function refuseWithoutSpace(target: string, bytes: number): Promise<void> {
  const folder = dirname(target);
  const free = await freeBytes(folder);
  if (bytes <= free) return;
  throw new QeditError(
    "QEDIT_E_IO",
    `Cannot download to ${folder}: ${decimalSize(bytes)} are needed, ${decimalSize(free)} are free`,
    {
      hint: `Free some space, or choose another disk: ${param("models_dir", "FOLDER")}`,
    },
  );
}
