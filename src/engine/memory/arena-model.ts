// ONNX Runtime's arena with its defaults: onnxruntime/core/framework/bfc_arena.cc (1.29). It says what of the regions was ever given out, which is
// what becomes resident on the CPU, where the system gives memory to a page when it is first written.

/** Sizes are rounded up to this many bytes. */
const ROUNDING = 256;
/** Bytes of the first region; each of the next ones is twice the last, up to the largest. */
const FIRST_REGION = 1024 ** 2;
const LARGEST_REGION = 1024 ** 3;
/** A chunk with so many bytes more than are asked for is divided, as is one of twice the bytes. */
const MOST_UNUSED = 128 * 1024 ** 2;
/** Pages of memory on Linux. */
const PAGE = 4096;

/** Bytes that were given out. */
export interface ArenaChunk {
  readonly region: Region;
  readonly offset: number;
  size: number;
  isFree: boolean;
  previous: ArenaChunk | undefined;
  next: ArenaChunk | undefined;
}

interface Region {
  readonly number: number;
  readonly size: number;
  /** Ranges of pages that were given out, [from, to). */
  readonly pages: (readonly [number, number])[];
}

/** An arena that grows as it is asked for bytes. */
export class ArenaModel {
  readonly #regions: Region[] = [];
  readonly #free = new Set<ArenaChunk>();
  #nextRegion = FIRST_REGION;

  /** Gives out bytes: the smallest free chunk that fits. */
  allocate(bytes: number): ArenaChunk {
    const rounded = Math.ceil(Math.max(bytes, 1) / ROUNDING) * ROUNDING;
    const chunk = this.#fitting(rounded) ?? this.#extended(rounded);
    this.#free.delete(chunk);
    if (chunk.size >= 2 * rounded || chunk.size - rounded >= MOST_UNUSED) this.#divide(chunk, rounded);
    chunk.isFree = false;
    chunk.region.pages.push([Math.floor(chunk.offset / PAGE), Math.ceil((chunk.offset + bytes) / PAGE)]);
    return chunk;
  }

  /** Takes bytes back; free neighbours become one chunk. */
  free(chunk: ArenaChunk): void {
    chunk.isFree = true;
    if (chunk.next?.isFree) this.#merge(chunk, chunk.next);
    const { previous } = chunk;
    if (previous?.isFree) this.#merge(previous, chunk);
    else this.#free.add(chunk);
  }

  /** Bytes of pages that were ever given out. */
  residentBytes(): number {
    return this.#regions.reduce((sum, { pages }) => sum + covered(pages) * PAGE, 0);
  }

  /** Bytes of the regions. */
  reservedBytes(): number {
    return this.#regions.reduce((sum, { size }) => sum + size, 0);
  }

  #fitting(bytes: number): ArenaChunk | undefined {
    let best: ArenaChunk | undefined;
    for (const chunk of this.#free)
      if (chunk.size >= bytes && (best === undefined || isBefore(chunk, best))) best = chunk;
    return best;
  }

  #extended(bytes: number): ArenaChunk {
    let size = bytes;
    if (bytes <= LARGEST_REGION) {
      const isLargeEnough = bytes <= this.#nextRegion;
      while (bytes > this.#nextRegion) this.#nextRegion *= 2;
      size = this.#nextRegion;
      if (isLargeEnough) this.#nextRegion = Math.min(2 * this.#nextRegion, LARGEST_REGION);
    }
    const region: Region = { number: this.#regions.length, size, pages: [] };
    this.#regions.push(region);
    const chunk = { region, offset: 0, size, isFree: true, previous: undefined, next: undefined };
    this.#free.add(chunk);
    return chunk;
  }

  #divide(chunk: ArenaChunk, bytes: number): void {
    const { region, offset, size, next } = chunk;
    const rest = { region, offset: offset + bytes, size: size - bytes, isFree: true, previous: chunk, next };
    if (next) next.previous = rest;
    chunk.next = rest;
    chunk.size = bytes;
    this.#free.add(rest);
  }

  #merge(first: ArenaChunk, second: ArenaChunk): void {
    this.#free.delete(second);
    first.size += second.size;
    first.next = second.next;
    if (second.next) second.next.previous = first;
  }
}

// By size, then by address: Linux maps each new region below the last one.
function isBefore(a: ArenaChunk, b: ArenaChunk): boolean {
  if (a.size !== b.size) return a.size < b.size;
  return a.region === b.region ? a.offset < b.offset : a.region.number > b.region.number;
}

// Pages in any of some ranges.
function covered(ranges: readonly (readonly [number, number])[]): number {
  let [pages, end] = [0, 0];
  for (const [from, to] of [...ranges].sort(([a], [b]) => a - b)) {
    if (to <= end) continue;
    pages += to - Math.max(from, end);
    end = to;
  }
  return pages;
}
