// Names of files that Node cannot tell from others: it reads bytes that are no UTF-8 as U+FFFD, and then finds no file by that name.
import { readdir } from "node:fs/promises";
import { basename, dirname } from "node:path";

const REPLACEMENT = "\uFFFD";

/** Whether what a path leads to is there under a name that is not UTF-8. */
export async function hasNameOfOtherBytes(path: string): Promise<boolean> {
  if (!path.includes(REPLACEMENT)) return false;
  const [folder, name] = [dirname(path), basename(path)];
  const names = await readdir(folder, { encoding: "buffer" }).catch(() => undefined);
  if (names === undefined) return folder !== path && hasNameOfOtherBytes(folder);
  return names.some((each) => each.toString() === name && !each.equals(Buffer.from(name)));
}
