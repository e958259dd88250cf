// Connected parts of a mask, and the mask without the small ones: runs of each row, joined to those that they touch in the row before.
import type { Mask } from "./distance.js";

/** Runs that there is room for at first. */
const FIRST_RUNS = 1024;

/** The mask without connected parts of fewer than `least` pixels. */
export function withoutSpecks(mask: Mask, least: number): Mask {
  const { width, height } = mask;
  const parts = partsOf(mask);
  const data = Uint8Array.from(mask.data);
  let run = 0;
  for (let y = 0; y < height; y++) {
    for (const [start, end] of runsOf(mask, y))
      if (parts.sizeOf(run++) < least) data.fill(0, y * width + start, y * width + end);
  }
  return { width, height, data };
}

function partsOf(mask: Mask): Parts {
  const parts = new Parts();
  let before: Run[] = [];
  for (let y = 0; y < mask.height; y++) {
    const row: Run[] = [];
    let first = 0;
    for (const [start, end] of runsOf(mask, y)) {
      const part = parts.add(end - start);
      while (first < before.length && before[first]!.end <= start) first++;
      for (let i = first; i < before.length && before[i]!.start < end; i++) parts.join(part, before[i]!.part);
      row.push({ start, end, part });
    }
    before = row;
  }
  return parts;
}

interface Run {
  readonly start: number;
  readonly end: number;
  readonly part: number;
}

function* runsOf({ width, data }: Mask, y: number): Generator<readonly [start: number, end: number]> {
  const [begin, behind] = [y * width, (y + 1) * width];
  for (let at = begin; at < behind; at++) {
    if (data[at] === 0) continue;
    const start = at;
    while (at < behind && data[at] !== 0) at++;
    yield [start - begin, at - begin];
  }
}

// Sets of runs that touch each other (union and find), numbered as they come, with their pixels.
class Parts {
  // Lists grow by copies: a number of each run of a large picture would make an array of numbers too long.
  #parents = new Int32Array(FIRST_RUNS);
  #sizes = new Int32Array(FIRST_RUNS);
  #count = 0;

  add(pixels: number): number {
    const part = this.#count++;
    if (part === this.#parents.length) {
      this.#parents = enlarged(this.#parents);
      this.#sizes = enlarged(this.#sizes);
    }
    this.#parents[part] = part;
    this.#sizes[part] = pixels;
    return part;
  }

  join(a: number, b: number): void {
    const [one, other] = [this.#root(a), this.#root(b)];
    if (one === other) return;
    const [small, large] = this.#sizes[one]! < this.#sizes[other]! ? [one, other] : [other, one];
    this.#parents[small] = large;
    this.#sizes[large]! += this.#sizes[small]!;
  }

  sizeOf(run: number): number {
    return this.#sizes[this.#root(run)]!;
  }

  #root(run: number): number {
    const parents = this.#parents;
    let at = run;
    while (parents[at] !== at) at = parents[at] = parents[parents[at]!]!;
    return at;
  }
}

function enlarged(values: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(values.length * 2);
  larger.set(values);
  return larger;
}
