// A temporary folder for artifacts of many edits between stages.
import { rmSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCache } from "../../artifacts/artifact-cache.js";
import type { Scratch } from "../../edit/service/lane.js";
import { ioFailure } from "../../std/files.js";
import { isLeftover, processName } from "../../std/temporary-files.js";

const NAME = "qedit-batch-";
/** Of batches, and of servers for agents. */
const OWNER = /^qedit-(?:batch|mcp)-([0-9a-f]{8}-\d+)-/;
/** Milliseconds without a write after which a folder of another machine's process is abandoned: no edit takes two days. */
const ABANDONED_AFTER = 2 * 24 * 3600_000;

/** Creates the folder. It is removed when the scratch is disposed or the signal aborts. */
export async function scratchFolder(signal: AbortSignal): Promise<Scratch> {
  await removeAbandonedScratch();
  const folder = await mkdtemp(join(tmpdir(), `${NAME}${processName()}-`)).catch((error: unknown) => {
    throw ioFailure("write", tmpdir(), error);
  });
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

/** Removes folders that killed processes left. */
export async function removeAbandonedScratch(): Promise<void> {
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const owner = OWNER.exec(name)?.[1];
    const path = join(tmpdir(), name);
    if (owner !== undefined && (await isLeftover(path, owner, ABANDONED_AFTER)))
      await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
