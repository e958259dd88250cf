// What identifies the weights of files without reading all of them, and whether the files are still those that were read.
import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { type FileHandle, stat } from "node:fs/promises";
import { readRange } from "../std/files.js";

/** The identity samples this many blocks of this many bytes: about 1 MiB, some milliseconds on a solid-state disk. */
const IDENTITY_BLOCKS = 256;
const IDENTITY_BLOCK_BYTES = 4096;

/** Files by path, each with its length, its time of change and its inode; empty for one that is not there. */
export type FileStamps = ReadonlyMap<string, string>;

/** A file that is open for its header, `start`. */
interface OpenWeights {
  readonly handle: FileHandle;
  /** Absolute path, links resolved. */
  readonly file: string;
  readonly size: number;
  readonly start: Uint8Array;
}

/** Takes what identifies weights while their files are open for their headers. */
export class WeightsIdentity {
  readonly #hash = createHash("sha256");
  readonly #stamps = new Map<string, string>();

  /** Takes a file's length, its header, and 256 blocks of 4096 bytes spread evenly over its data, the first and the last included. */
  async take({ handle, file, size, start }: OpenWeights): Promise<void> {
    this.#stamps.set(file, stampOf(await handle.stat()));
    this.#hash.update(`${size}\n`).update(start);
    for (const at of sampleStarts(start.length, size)) {
      this.#hash.update(await readRange(handle, at, Math.min(IDENTITY_BLOCK_BYTES, size - at)));
    }
  }

  /** Takes the text of a configuration that lies beside the weights and says how they are used; undefined where none lies there. */
  async takeBeside(file: string, text: string | undefined): Promise<void> {
    this.#stamps.set(file, await stampAt(file));
    if (text !== undefined) this.#hash.update(`${text.length}\n`).update(text);
  }

  /** Ends the hash; called once. */
  digest(): { readonly identity: string; readonly stamps: FileStamps } {
    return { identity: this.#hash.digest("hex"), stamps: this.#stamps };
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

function stampOf({ size, mtimeMs, ino }: Stats): string {
  return `${size} ${mtimeMs} ${ino}`;
}

/** Starts of the sampled blocks; small data is read whole. */
function sampleStarts(dataStart: number, size: number): number[] {
  const room = size - dataStart - IDENTITY_BLOCK_BYTES;
  if (room <= IDENTITY_BLOCKS * IDENTITY_BLOCK_BYTES) {
    return Array.from(
      { length: Math.ceil((size - dataStart) / IDENTITY_BLOCK_BYTES) },
      (_, i) => dataStart + i * IDENTITY_BLOCK_BYTES,
    );
  }
  return Array.from({ length: IDENTITY_BLOCKS }, (_, i) => dataStart + Math.floor((room * i) / (IDENTITY_BLOCKS - 1)));
}
