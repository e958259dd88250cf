// Hashes of whole inputs, for records and for finding a result that was made before.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { ioFailure } from "./files.js";

/** Hexadecimal SHA-256 of all bytes of a file, given its path, or of bytes in memory. Throws QEDIT_E_IO when the file cannot be read. */
export async function fileHash(source: string | Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  if (typeof source !== "string") return hash.update(source).digest("hex");
  try {
    await pipeline(createReadStream(source), hash);
  } catch (error) {
    throw ioFailure("read", source, error);
  }
  return hash.digest("hex");
}
