// ONNX Runtime's memory arena by arithmetic: the regions it takes from the system and keeps, and how much of them a run touches.
// onnxruntime/core/framework/bfc_arena.cc (1.29): best fit, halves kept whole, regions that double.

/** Sizes of chunks are multiples of this. */
const ROUNDING = 256;
/** Length of the first region; each next one is twice as long. */
const FIRST_REGION = 2 ** 20;
/** A region grows by doubling up to this, and beyond it only to what is asked for. */
const LARGEST_DOUBLING = 2 ** 30;
/** A chunk is cut when it is twice what is asked for, or when this much would be left unused. */
const MOST_UNUSED = 128 * 2 ** 20;

/** A part of a region; neighbours in use or free. */
export interface Chunk {
  size: number;
  readonly region: Region;
  readonly start: number;
  isFree: boolean;
  before: Chunk | undefined;
  after: Chunk | undefined;
}

interface Region {
  readonly size: number;
  /** End of the part that was ever in use. */
  touched: number;
}

/** An arena that has served no request yet. */
export class Arena {
  #next = FIRST_REGION;
  readonly #free = new Set<Chunk>();
  readonly #regions: Region[] = [];

  /** Bytes taken from the system. */
  get reserved(): number {
    return this.#regions.reduce((sum, { size }) => sum + size, 0);
  }

  /** Bytes of them that were ever in use: what a system that hands out pages when they are written counts. */
  get touched(): number {
    return this.#regions.reduce((sum, { touched }) => sum + touched, 0);
  }

  /** Gives the smallest chunk that holds so many bytes. */
  allocate(bytes: number): Chunk {
    const wanted = Math.max(Math.ceil(bytes / ROUNDING), 1) * ROUNDING;
    const chunk = this.#fitting(wanted) ?? this.#extend(wanted);
    this.#free.delete(chunk);
    chunk.isFree = false;
    if (chunk.size >= 2 * wanted || chunk.size - wanted >= MOST_UNUSED) this.#cut(chunk, wanted);
    chunk.region.touched = Math.max(chunk.region.touched, chunk.start + wanted);
    return chunk;
  }

  /** Takes a chunk back, and joins it with free neighbours. */
  release(chunk: Chunk): void {
    chunk.isFree = true;
    const first = chunk.before?.isFree ? this.#joined(chunk.before, chunk) : chunk;
    if (first.after?.isFree) this.#joined(first, first.after);
    this.#free.add(first);
  }

  #fitting(wanted: number): Chunk | undefined {
    let best: Chunk | undefined;
    for (const chunk of this.#free) {
      if (chunk.size >= wanted && (best === undefined || chunk.size < best.size)) best = chunk;
    }
    return best;
  }

  #extend(wanted: number): Chunk {
    const before = this.#next;
    while (this.#next < wanted && this.#next < LARGEST_DOUBLING) this.#next *= 2;
    const region = { size: Math.max(this.#next, wanted), touched: 0 };
    if (this.#next === before && this.#next < LARGEST_DOUBLING) this.#next *= 2;
    this.#regions.push(region);
    return { size: region.size, region, start: 0, isFree: true, before: undefined, after: undefined };
  }

  #cut(chunk: Chunk, size: number): void {
    const rest: Chunk = {
      size: chunk.size - size,
      region: chunk.region,
      start: chunk.start + size,
      isFree: true,
      before: chunk,
      after: chunk.after,
    };
    if (chunk.after) chunk.after.before = rest;
    chunk.after = rest;
    chunk.size = size;
    this.#free.add(rest);
  }

  #joined(first: Chunk, second: Chunk): Chunk {
    this.#free.delete(first);
    this.#free.delete(second);
    first.size += second.size;
    first.after = second.after;
    if (second.after) second.after.before = first;
    return first;
  }
}
