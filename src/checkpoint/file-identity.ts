// What identifies the weights of files without reading all of them, and whether the files are still those that were read.
import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { type FileHandle, realpath, stat } from "node:fs/promises";
import { readRange } from "../std/files.js";

/** The identity samples this many blocks of this many bytes: about 1 MiB, some milliseconds on a solid-state disk. */
const IDENTITY_BLOCKS = 256;
const IDENTITY_BLOCK_BYTES = 4096;

/** Files by path, each with its length, its time of change and its inode; empty for one that is not there. */
export type FileStamps = ReadonlyMap<string, string>;

/** What a path led to: a link may be pointed elsewhere, another file of a folder be chosen, though the file that was read stays as it was. */
export interface Lookup {
  /** A path; undefined where there was nothing to find. */
  readonly found: string | undefined;
  /** Looks again; may throw. */
  readonly again: () => Promise<string | undefined>;
}

/** What was read, and how it was found. */
export interface ReadFiles {
  readonly stamps: FileStamps;
  readonly lookups: readonly Lookup[];
  /**
   * What together with the identity means equal weights on this machine: the length, times and inode of each file that the identity only samples. Empty
   * where it has read everything.
   */
  readonly states: readonly string[];
}

/** A file that is open for its header, `start`. */
interface OpenWeights {
  readonly handle: FileHandle;
  /** Its path as it was named. */
  readonly name: string;
  /** Absolute path, links resolved. */
  readonly file: string;
  readonly size: number;
  readonly start: Uint8Array;
}

/** Takes what identifies weights while their files are open for their headers. */
export class WeightsIdentity {
  readonly #hash = createHash("sha256");
  readonly #stamps = new Map<string, string>();
  readonly #lookups: Lookup[] = [];
  readonly #states: string[] = [];

  /** Takes a file's length, its header, and 256 blocks of 4096 bytes spread evenly over its data, the first and the last included. */
  async take({ handle, name, file, size, start }: OpenWeights): Promise<void> {
    this.#lookups.push({ found: file, again: () => realpath(name) });
    const stats = await handle.stat();
    this.#stamps.set(file, stampOf(stats));
    if (isSampled(start.length, size)) this.#states.push(stateOf(stats));
    this.#hash.update(`${size}\n`).update(start);
    for (const at of sampleStarts(start.length, size)) {
      this.#hash.update(await readRange(handle, at, Math.min(IDENTITY_BLOCK_BYTES, size - at)));
    }
  }

  /** Takes the text of a configuration that lies beside the weights and says how they are used; undefined where none lies there. */
  takeText(text: string | undefined): void {
    if (text !== undefined) this.#hash.update(`${text.length}\n`).update(text);
  }

  /** Takes which file has which tensor: the identity of a sharded checkpoint is that of its files alone. */
  takePlaces(places: object): void {
    this.#states.push(createHash("sha256").update(JSON.stringify(places)).digest("hex"));
  }

  /** Stamps a file that is read apart from the weights: before it is read, so that a change meanwhile is noticed. */
  async stamp(file: string): Promise<void> {
    this.#stamps.set(file, await stampAt(file));
  }

  /** What a search finds, which may be something else later. Throws as `find` does. */
  async lookUp<T extends string | undefined>(find: () => Promise<T>): Promise<T> {
    const found = await find();
    this.#lookups.push({ found, again: find });
    return found;
  }

  /** Ends the hash; called once. */
  digest(): ReadFiles & { readonly identity: string } {
    return { identity: this.#hash.digest("hex"), stamps: this.#stamps, lookups: this.#lookups, states: this.#states };
  }
}

/** The stamp of a file as it is now. */
export async function stampAt(file: string): Promise<string> {
  return stat(file).then(stampOf, () => "");
}

/** The first of the files that has changed since, or is gone; undefined when all are as they were. */
export async function changedFile(stamps: FileStamps): Promise<string | undefined> {
  for (const [file, stamp] of stamps) if ((await stampAt(file)) !== stamp) return file;
  return undefined;
}

/** Whether reading anew would read the same files, unchanged. */
export async function wouldReadSame({ stamps, lookups }: ReadFiles): Promise<boolean> {
  for (const { found, again } of lookups) {
    const isSame = await again().then(
      (now) => now === found,
      () => false,
    );
    if (!isSame) return false;
  }
  return (await changedFile(stamps)) === undefined;
}

function stampOf({ size, mtimeMs, ino }: Stats): string {
  return `${size} ${mtimeMs} ${ino}`;
}

// The time of the inode's change too: tools that copy and unpack set the other one back, and no call sets this one.
function stateOf(stats: Stats): string {
  return `${stampOf(stats)} ${stats.ctimeMs}`;
}

/** Whether data is longer than what is sampled of it; what is not is read whole. */
function isSampled(dataStart: number, size: number): boolean {
  return size - dataStart - IDENTITY_BLOCK_BYTES > IDENTITY_BLOCKS * IDENTITY_BLOCK_BYTES;
}

/** Starts of the sampled blocks. */
function sampleStarts(dataStart: number, size: number): number[] {
  const room = size - dataStart - IDENTITY_BLOCK_BYTES;
  if (!isSampled(dataStart, size)) {
    return Array.from(
      { length: Math.ceil((size - dataStart) / IDENTITY_BLOCK_BYTES) },
      (_, i) => dataStart + i * IDENTITY_BLOCK_BYTES,
    );
  }
  return Array.from({ length: IDENTITY_BLOCKS }, (_, i) => dataStart + Math.floor((room * i) / (IDENTITY_BLOCKS - 1)));
}
