// Masks, and how far each pixel lies from them: exact Euclidean distances up to a limit, by columns within a few rows and then by lower envelopes along rows.
// Algorithm: Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012.
import type { Size } from "../image.js";

/** A mask: data [height, width], 1 inside and 0 outside. */
export interface Mask extends Size {
  readonly data: Uint8Array;
}

/** More rows than any picture has. */
const FAR = 1e9;

/** Most rows that are worked on at a time. */
const BAND = 256;

/**
 * Distance of each pixel to the nearest one that is `value` in the mask, pixels, row by row; what is further than `most` is Infinity or its distance.
 * Every row is given in the same memory.
 */
export function* distanceRows({ width, height, data }: Mask, value: 0 | 1, most: number): Generator<Float32Array> {
  const reach = Math.min(Math.floor(most), height);
  const band = Math.min(Math.max(reach, 1), BAND);
  const [above, below] = [new Int32Array(width).fill(FAR), new Int32Array(width)];
  const rowsBelow = new Int32Array(band * width);
  const envelope = new Envelope(width, most);
  const step = (rows: Int32Array, y: number) => {
    for (let x = 0, at = y * width; x < width; x++, at++) rows[x] = data[at] === value ? 0 : rows[x]! + 1;
  };
  for (let top = 0; top < height; top += band) {
    const end = Math.min(top + band, height);
    below.fill(FAR);
    for (let y = Math.min(end + reach, height) - 1; y >= top; y--) {
      step(below, y);
      if (y < end) rowsBelow.set(below, (y - top) * width);
    }
    for (let y = top; y < end; y++) {
      step(above, y);
      yield envelope.distances(above, rowsBelow.subarray((y - top) * width, (y - top + 1) * width));
    }
  }
}

/** The mask dilated: everything within `radius` pixels of it. */
export function dilated(mask: Mask, radius: number): Mask {
  return maskWhere(mask, distanceRows(mask, 1, radius), (distance) => distance <= radius);
}

/** The mask eroded: what is further than `radius` pixels from its outside. */
export function eroded(mask: Mask, radius: number): Mask {
  return maskWhere(mask, distanceRows(mask, 0, radius), (distance) => distance > radius);
}

function maskWhere(
  { width, height }: Size,
  rows: Iterable<Float32Array>,
  isWanted: (distance: number) => boolean,
): Mask {
  const data = new Uint8Array(width * height);
  let at = 0;
  for (const row of rows) for (let x = 0; x < width; x++, at++) data[at] = isWanted(row[x]!) ? 1 : 0;
  return { width, height, data };
}

// Distances along one row, by those along columns: the lower envelope of the parabolas that stand on their squares.
class Envelope {
  readonly #most: number;
  readonly #squares: Float64Array;
  readonly #vertices: Int32Array;
  readonly #borders: Float64Array;
  readonly #distances: Float32Array;

  constructor(width: number, most: number) {
    this.#most = most;
    this.#squares = new Float64Array(width);
    this.#vertices = new Int32Array(width);
    this.#borders = new Float64Array(width + 1);
    this.#distances = new Float32Array(width);
  }

  distances(above: Int32Array, below: Int32Array): Float32Array {
    const squares = this.#squares;
    const vertices = this.#vertices;
    const borders = this.#borders;
    const distances = this.#distances;
    const width = squares.length;
    let last = -1;
    for (let x = 0; x < width; x++) {
      const near = Math.min(above[x]!, below[x]!);
      // What is further than the limit by column alone is no nearest pixel within it. FAR: there is none in the column.
      if (near > this.#most || near >= FAR) continue;
      squares[x] = near * near;
      let cross = -Infinity;
      while (last >= 0 && (cross = crossing(squares, vertices[last]!, x)) <= borders[last]!) last--;
      vertices[++last] = x;
      borders[last] = last === 0 ? -Infinity : cross;
    }
    if (last < 0) return distances.fill(Infinity);
    borders[last + 1] = Infinity;
    for (let x = 0, part = 0; x < width; x++) {
      while (borders[part + 1]! < x) part++;
      const vertex = vertices[part]!;
      distances[x] = Math.sqrt((x - vertex) ** 2 + squares[vertex]!);
    }
    return distances;
  }
}

function crossing(squares: Float64Array, a: number, b: number): number {
  return (squares[b]! + b * b - (squares[a]! + a * a)) / (2 * (b - a));
}
