// Simulates ONNX Runtime's memory arena: the regions that it allocates from the system, and how much of them a run touches.
// onnxruntime/core/framework/bfc_arena.cc (1.29): best fit with coalescing, regions that double.

/** Sizes of chunks are multiples of this many bytes. */
const ROUNDING = 256;
/** Bytes of the first region; each next one is twice as large. */
const FIRST_REGION = 2 ** 20;
/** Regions double up to this many bytes; a larger one is as large as the request. */
const LARGEST_DOUBLING = 2 ** 30;
/** A chunk is split when it is twice the request, or when this many bytes would be unused. */
const MAX_UNUSED = 128 * 2 ** 20;

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

/** An arena, empty at first. */
export class Arena {
  #next = FIRST_REGION;
  readonly #free = new Set<Chunk>();
  readonly #regions: Region[] = [];

  /** Bytes of all regions. */
  get reserved(): number {
    return this.#regions.reduce((sum, { size }) => sum + size, 0);
  }

  /** Bytes of the regions that were ever in use: resident memory where pages are allocated when first written. */
  get touched(): number {
    return this.#regions.reduce((sum, { touched }) => sum + touched, 0);
  }

  /** Returns the smallest free chunk of at least `bytes`, extending the arena when there is none. */
  allocate(bytes: number): Chunk {
    const rounded = Math.max(Math.ceil(bytes / ROUNDING), 1) * ROUNDING;
    const chunk = this.#bestFit(rounded) ?? this.#extend(rounded);
    this.#free.delete(chunk);
    chunk.isFree = false;
    if (chunk.size >= 2 * rounded || chunk.size - rounded >= MAX_UNUSED) this.#split(chunk, rounded);
    chunk.region.touched = Math.max(chunk.region.touched, chunk.start + rounded);
    return chunk;
  }

  /** Frees a chunk, and merges it with free neighbours. */
  release(chunk: Chunk): void {
    chunk.isFree = true;
    const first = chunk.before?.isFree ? this.#merge(chunk.before, chunk) : chunk;
    if (first.after?.isFree) this.#merge(first, first.after);
    this.#free.add(first);
  }

  #bestFit(rounded: number): Chunk | undefined {
    let best: Chunk | undefined;
    for (const chunk of this.#free) {
      if (chunk.size >= rounded && (best === undefined || chunk.size < best.size)) best = chunk;
    }
    return best;
  }

  #extend(rounded: number): Chunk {
    const before = this.#next;
    while (this.#next < rounded && this.#next < LARGEST_DOUBLING) this.#next *= 2;
    const region = { size: Math.max(this.#next, rounded), touched: 0 };
    if (this.#next === before && this.#next < LARGEST_DOUBLING) this.#next *= 2;
    this.#regions.push(region);
    return { size: region.size, region, start: 0, isFree: true, before: undefined, after: undefined };
  }

  #split(chunk: Chunk, size: number): void {
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

  #merge(first: Chunk, second: Chunk): Chunk {
    this.#free.delete(first);
    this.#free.delete(second);
    first.size += second.size;
    first.after = second.after;
    if (second.after) second.after.before = first;
    return first;
  }
}
