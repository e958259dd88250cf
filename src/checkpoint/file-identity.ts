// What identifies the weights of a file without reading all of it.
import type { Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { readRange } from "../std/files.js";

/** The identity samples this many blocks of this many bytes: about 1 MiB, some milliseconds on a solid-state disk. */
const IDENTITY_BLOCKS = 256;
const IDENTITY_BLOCK_BYTES = 4096;

/** Takes a file's length, its header (`start`), and 256 blocks of 4096 bytes spread evenly over its data, the first and the last included. */
export async function updateIdentity(
  identity: Hash,
  handle: FileHandle,
  { start, size }: { readonly start: Uint8Array; readonly size: number },
): Promise<void> {
  identity.update(`${size}\n`).update(start);
  for (const at of sampleStarts(start.length, size)) {
    identity.update(await readRange(handle, at, Math.min(IDENTITY_BLOCK_BYTES, size - at)));
  }
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
