// A temporary folder for artifacts of many edits between stages.
import { rmSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCache } from "../../artifacts/artifact-cache.js";
import type { Scratch } from "../../edit/service/lane.js";

const NAME = "qedit-batch-";
/** Milliseconds without a write after which a folder is abandoned: no edit takes two days. */
const ABANDONED_AFTER = 2 * 24 * 3600_000;

/** Creates the folder. It is removed when the scratch is disposed or the signal aborts. */
export async function scratchFolder(signal: AbortSignal): Promise<Scratch> {
  await removeAbandoned();
  const folder = await mkdtemp(join(tmpdir(), NAME));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  // After an abort the process may end before the scratch is disposed.
  signal.addEventListener("abort", remove, { once: true });
  return {
    ...openCache(folder, Number.POSITIVE_INFINITY),
    async [Symbol.asyncDispose]() {
      signal.removeEventListener("abort", remove);
      remove();
    },
  };
}

// Removes folders of killed processes.
async function removeAbandoned(): Promise<void> {
  const names = (await readdir(tmpdir()).catch(() => [])).filter((each) => each.startsWith(NAME));
  for (const name of names) {
    const path = join(tmpdir(), name);
    const found = await stat(path).catch(() => undefined);
    // Removing folders of other users fails, which is ignored.
    const isOld = found !== undefined && Date.now() - found.mtimeMs > ABANDONED_AFTER;
    if (isOld) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
