// qedit cache list, clear and path.
import { type CacheEntry, cacheEntries, clearCache } from "../../../artifacts/artifact-cache.js";
import { readSafetensors } from "../../../checkpoint/safetensors/safetensors.js";
import { defineCommand } from "../../command.js";
import { cacheFolder, modulationFolder } from "../../with-service.js";

/** `qedit cache list`. */
export const list = defineCommand({
  examples: ["qedit cache list", "qedit cache list --json | jq '.bytes'"],
  options: {},
  async perform(_call, terminal) {
    const folder = cacheFolder();
    const entries = (await cacheEntries(folder)).reverse();
    const records = await Promise.all(entries.map(recordOf));
    const bytes = total(entries);
    const lines = records.map(
      ({ key, kind, bytes: size, used }) =>
        `${key.slice(0, 12)}  ${kind.padEnd(7)}  ${megabytes(size).padStart(9)}  ${used}`,
    );
    terminal.result({ folder, bytes, entries: records }, [
      ...lines,
      `${counted(entries.length)}, ${megabytes(bytes)}, in ${folder}`,
    ]);
  },
});

/** `qedit cache clear`. */
export const clear = defineCommand({
  examples: ["qedit cache clear"],
  options: {},
  async perform(_call, terminal) {
    const folder = cacheFolder();
    const entries = [...(await clearCache(folder)), ...(await clearCache(modulationFolder()))];
    terminal.result({ folder, removed: entries.length, bytes: total(entries) }, [
      `Removed ${counted(entries.length)}, ${megabytes(total(entries))}, from ${folder}`,
    ]);
  },
});

/** `qedit cache path`. */
export const path = defineCommand({
  examples: ["qedit cache path", 'du -sh "$(qedit cache path)"'],
  options: {},
  async perform(_call, terminal) {
    terminal.result({ folder: cacheFolder() }, [cacheFolder()]);
  },
});

async function recordOf({ key, path: at, bytes, used }: CacheEntry) {
  // Another process may have removed it, or the file may be truncated.
  const kind = await readSafetensors(at).then(
    ({ metadata }) => metadata["kind"] ?? "unknown",
    () => "damaged",
  );
  return { key, kind, bytes, used: new Date(used).toISOString() };
}

function total(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function counted(count: number): string {
  return `${count} ${count === 1 ? "result" : "results"}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)} MB`;
}
