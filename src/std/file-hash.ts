// Hashes of whole files, for records, receipts, and finding a result that was made before.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { ioFailure } from "./files.js";

/** Large reads: hashing then runs at the speed of the processor, not of the calls. */
const READ_BYTES = 4 * 2 ** 20;

/** Options of `fileHash`. */
export interface FileHashOptions {
  readonly algorithm?: "sha256" | "sha512";
  readonly signal?: AbortSignal;
  /** Takes the bytes hashed so far. */
  readonly onProgress?: (done: number) => void;
}

/**
 * Hexadecimal hash, SHA-256 by default, of all bytes of a file, given its path, or of bytes in memory.
 * Throws QEDIT_E_IO when the file cannot be read, and the reason of the signal.
 */
export async function fileHash(
  source: string | Uint8Array,
  { algorithm = "sha256", signal, onProgress }: FileHashOptions = {},
): Promise<string> {
  const hash = createHash(algorithm);
  if (typeof source !== "string") return hash.update(source).digest("hex");
  let done = 0;
  try {
    for await (const bytes of createReadStream(source, { highWaterMark: READ_BYTES })) {
      signal?.throwIfAborted();
      hash.update(bytes as Uint8Array);
      done += (bytes as Uint8Array).length;
      onProgress?.(done);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw ioFailure("read", source, error);
  }
  return hash.digest("hex");
}
