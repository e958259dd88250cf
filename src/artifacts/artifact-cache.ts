// A cache of artifacts in a folder, by the hash of their inputs. Processes may share it: entries are renamed into place, unreadable ones are
// misses, and the least recently used are evicted when the folder is over its limit.
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { decodeSafetensors } from "../checkpoint/safetensors/safetensors.js";
import { writeFileAtomically } from "../std/files.js";
import { removeLeftovers } from "../std/temporary-files.js";
import { type Artifact, artifactHash, decodeArtifact, encodeArtifact } from "./artifact.js";
import type { ArtifactKind } from "./kinds.js";

/** A folder of artifacts by key. */
export interface ArtifactCache {
  readonly folder: string;
  /** The artifact under a key; undefined when there is none. A damaged one is removed. */
  readonly find: (key: string, kind: ArtifactKind) => Promise<Artifact | undefined>;
  /** Stores an artifact, evicting others; false when it is larger than the limit. Throws QEDIT_E_IO once; after that nothing more is stored. */
  readonly keep: (key: string, artifact: Artifact) => Promise<boolean>;
}

/** An entry of the folder. */
export interface CacheEntry {
  readonly key: string;
  readonly path: string;
  readonly bytes: number;
  /** Time of its last use, milliseconds since 1970. */
  readonly used: number;
}

/** Metadata key of the checksum of the artifact without this key. */
const CONTENT = "content_sha256";

const ENTRY_NAME = /^([0-9a-f]{64})\.safetensors$/;

/** A cache key: the SHA-256 of everything that an artifact depends on, as JSON. */
export function cacheKey(parts: object): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** Opens a cache in a folder, which need not exist; limit is in bytes. Entries that this process used are not evicted. */
export function openCache(folder: string, limit: number): ArtifactCache {
  const pinned = new Set<string>();
  let isClosed = false;
  const pathOf = (key: string) => join(folder, `${key}.safetensors`);
  return {
    folder,
    async find(key, kind) {
      const path = pathOf(key);
      const bytes = await readFile(path).catch(() => undefined);
      if (bytes === undefined) return undefined;
      const artifact = await intact(bytes, kind);
      if (artifact === undefined) {
        await rm(path, { force: true }).catch(() => {});
        return undefined;
      }
      pinned.add(key);
      const now = new Date();
      // Ignore: the cache may be read-only.
      await utimes(path, now, now).catch(() => {});
      return artifact;
    },
    async keep(key, artifact) {
      const bytes = encodeArtifact(artifact, { [CONTENT]: artifactHash(artifact) });
      if (isClosed || bytes.length > limit) return false;
      await writeFileAtomically(pathOf(key), bytes, { isPrivate: true }).catch((error: unknown) => {
        isClosed = true;
        throw error;
      });
      pinned.add(key);
      await evict(folder, { limit, pinned });
      return true;
    },
  };
}

/** The entries of a cache folder, the longest unused first; none when the folder does not exist. */
export async function cacheEntries(folder: string): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const name of await namesIn(folder)) {
    const key = ENTRY_NAME.exec(name)?.[1];
    const path = join(folder, name);
    const found = key === undefined ? undefined : await stat(path).catch(() => undefined);
    if (key !== undefined && found?.isFile()) entries.push({ key, path, bytes: found.size, used: found.mtimeMs });
  }
  return entries.sort((a, b) => a.used - b.used);
}

/** Removes all entries, and no other files; gives the removed ones. */
export async function clearCache(folder: string): Promise<CacheEntry[]> {
  const entries = await cacheEntries(folder);
  for (const { path } of entries) await rm(path, { force: true });
  await removeLeftovers(folder);
  return entries;
}

async function evict(folder: string, { limit, pinned }: { limit: number; pinned: ReadonlySet<string> }): Promise<void> {
  const entries = await cacheEntries(folder);
  let bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  for (const entry of entries) {
    if (bytes <= limit) return;
    if (pinned.has(entry.key)) continue;
    // Another process may have removed it; one that is reading it keeps its open file.
    await rm(entry.path, { force: true }).catch(() => {});
    bytes -= entry.bytes;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

// Undefined when the checksum differs.
async function intact(bytes: Uint8Array, kind: ArtifactKind): Promise<Artifact | undefined> {
  try {
    const wanted = decodeSafetensors(bytes, "a cache entry").metadata[CONTENT];
    const artifact = await decodeArtifact(bytes, { kind, name: "a cache entry" });
    return artifactHash(artifact) === wanted ? artifact : undefined;
  } catch {
    return undefined;
  }
}
