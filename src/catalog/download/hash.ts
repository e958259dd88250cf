// The SHA-256 of files of any size, with progress.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { ioFailure } from "../../std/files.js";

/** Large reads: hashing then runs at the speed of the processor, not of the calls. */
const READ_BYTES = 4 * 2 ** 20;

/** Hexadecimal SHA-256 of a file; `onProgress` hears of the bytes done. Throws QEDIT_E_IO, or the reason of the signal. */
export async function hashFile(
  path: string,
  { signal, onProgress = () => {} }: { signal: AbortSignal; onProgress?: (done: number) => void },
): Promise<string> {
  const hash = createHash("sha256");
  let done = 0;
  try {
    for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) {
      signal.throwIfAborted();
      hash.update(bytes as Uint8Array);
      done += (bytes as Uint8Array).length;
      onProgress(done);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw ioFailure("read", path, error);
  }
  return hash.digest("hex");
}
