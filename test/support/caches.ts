// Folders for caches of calls, gone when the tests of a file are done: setup.ts sees to that.
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

let caches: string | undefined;

/** Makes a folder of its own for a call. */
export function cacheFolder(): string {
  caches ??= mkdtempSync(join(tmpdir(), "qedit-caches-"));
  return mkdtempSync(join(caches, "cache-"));
}

/** Removes those that were made. */
export async function removeCaches(): Promise<void> {
  if (caches !== undefined) await rm(caches, { recursive: true, force: true });
  caches = undefined;
}
