// A temporary folder for the artifacts of many edits between their stages.
import { rmSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCache } from "../../artifacts/artifact-cache.js";
import type { Scratch } from "../../edit/service/lane.js";

const NAME = "qedit-batch-";
/** Nothing was put into the folder for so long: no edit takes two days. */
const ABANDONED_AFTER = 2 * 24 * 3600_000;

/** Makes the folder; it goes with the scratch, or when the signal aborts. */
export async function scratchFolder(signal: AbortSignal): Promise<Scratch> {
  await removeAbandoned();
  const folder = await mkdtemp(join(tmpdir(), NAME));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  // A stop may end the process before it comes to its end.
  signal.addEventListener("abort", remove, { once: true });
  return {
    ...openCache(folder, Number.POSITIVE_INFINITY),
    async [Symbol.asyncDispose]() {
      signal.removeEventListener("abort", remove);
      remove();
    },
  };
}

// Folders of batches that were killed.
async function removeAbandoned(): Promise<void> {
  const names = (await readdir(tmpdir()).catch(() => [])).filter((each) => each.startsWith(NAME));
  for (const name of names) {
    const path = join(tmpdir(), name);
    const found = await stat(path).catch(() => undefined);
    // Other users' stay: they are not ours to remove.
    const isOld = found !== undefined && Date.now() - found.mtimeMs > ABANDONED_AFTER;
    if (isOld) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
