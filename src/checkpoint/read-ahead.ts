// Reading weights before they are wanted: the system then has them in its page cache when a session maps the file, instead of
// faulting them in page by page. What is read is thrown away; nothing depends on it but the time.
import { open } from "node:fs/promises";
import type { StoredTensor } from "./checkpoint.js";

/** Bytes of one read: large enough for a disk to stream. */
const READ_BYTES = 8 * 1024 ** 2;
/** Parts of a file nearer to each other than this are read as one. */
const GAP_BYTES = 1024 ** 2;

/** Bytes [start, end) of a file. */
export interface FileRange {
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/** The ranges that tensors lie in, in the order of their files. */
export function rangesOf(tensors: Iterable<StoredTensor>): FileRange[] {
  const sorted = [...tensors].sort((a, b) => (a.file === b.file ? a.offset - b.offset : a.file < b.file ? -1 : 1));
  const ranges: { file: string; start: number; end: number }[] = [];
  for (const { file, offset, length } of sorted) {
    const last = ranges.at(-1);
    if (last?.file === file && offset - last.end <= GAP_BYTES) last.end = Math.max(last.end, offset + length);
    else ranges.push({ file, start: offset, end: offset + length });
  }
  return ranges;
}

/** Reads ranges one after the other, until the signal or `hasRoom` says stop; gives the bytes that were read. A file that cannot be read ends it: the session that maps the file reports why. */
export async function readAhead(
  ranges: readonly FileRange[],
  { signal, hasRoom }: { signal: AbortSignal; hasRoom: () => boolean },
): Promise<number> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let bytes = 0;
  for (const { file, start, end } of ranges) {
    const handle = await open(file).catch(() => undefined);
    if (!handle) return bytes;
    try {
      for (let at = start; at < end; ) {
        if (signal.aborted || !hasRoom()) return bytes;
        const { bytesRead } = await handle.read(buffer, 0, Math.min(READ_BYTES, end - at), at);
        if (bytesRead === 0) return bytes;
        at += bytesRead;
        bytes += bytesRead;
      }
    } catch {
      return bytes;
    } finally {
      await handle.close();
    }
  }
  return bytes;
}
