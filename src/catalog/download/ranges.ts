// Sets of byte ranges [start, end).

/** Bytes from start up to but not including end. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A set with a range added: sorted, touching ranges joined. */
export function withRange(ranges: readonly ByteRange[], added: ByteRange): ByteRange[] {
  if (added.end <= added.start) return [...ranges];
  const apart = ranges.filter(({ start, end }) => end < added.start || start > added.end);
  const touching = ranges.filter((range) => !apart.includes(range));
  const joined = {
    start: Math.min(added.start, ...touching.map(({ start }) => start)),
    end: Math.max(added.end, ...touching.map(({ end }) => end)),
  };
  return [...apart, joined].sort((a, b) => a.start - b.start);
}

/** The complement of a set in [0, bytes), in pieces of at most `largest` bytes. */
export function missingRanges(ranges: readonly ByteRange[], bytes: number, largest: number): ByteRange[] {
  const missing: ByteRange[] = [];
  let at = 0;
  for (const { start, end } of [...ranges, { start: bytes, end: bytes }]) {
    for (; at < start; at = Math.min(start, at + largest))
      missing.push({ start: at, end: Math.min(start, at + largest) });
    at = Math.max(at, end);
  }
  return missing;
}

/** Bytes in a set. */
export function sizeOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start, 0);
}
