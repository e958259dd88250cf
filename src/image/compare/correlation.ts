// Normalised cross-correlation of blocks of a plane with another plane around the same place, after that plane was brought to another zoom and shift.

import { WasmLayout } from "../../std/web-assembly.js";
import type { Box, Size } from "../image.js";
import { DRIFT_WASM, type Plane } from "./drift-wasm.js";
import type { Similarity } from "./similarity.js";

/** Weaker peaks are no match: noise of a block's size reaches a third. */
const LEAST_CORRELATION = 0.5;

/** Offsets that a block is multiplied with at a time, and bytes that are read beyond a plane for those of them that nobody asked for. */
const AT_ONCE = 8;
const SPARE = 4 * AT_ONCE;

const FLOAT = Float32Array.BYTES_PER_ELEMENT;
const DOUBLE = Float64Array.BYTES_PER_ELEMENT;
/** Words of a tap: two places and the share of the second. */
const TAP = 3;

/** Where blocks of one plane are looked for in another, of the same size: planes up to the largest size, offsets up to the longest reach. */
export class BlockMatcher {
  readonly #memory: ArrayBuffer;
  readonly #exports: ReturnType<typeof DRIFT_WASM.open>["exports"];
  readonly #at: Readonly<
    Record<"template" | "original" | "moved" | "columns" | "rows" | "sums" | "squares" | "products", number>
  >;
  // Running sums of what is searched, and of its squares, over everything above and left: the mean and spread of any rectangle cost nothing.
  readonly #sums: Float64Array;
  readonly #squares: Float64Array;
  readonly #products: Float64Array;
  #template: Plane | undefined;
  /** Where what is searched lies. */
  #searched = 0;

  constructor({ width, height }: Size, reach: number) {
    const layout = new WasmLayout();
    const plane = () => layout.place(width * height * FLOAT + SPARE);
    const running = (width + 1) * (height + 1);
    const products = offsets(reach) * rowOfProducts(reach);
    this.#at = {
      template: plane(),
      original: plane(),
      moved: plane(),
      columns: layout.place(width * TAP * FLOAT),
      rows: layout.place(height * TAP * FLOAT),
      sums: layout.place(running * DOUBLE),
      squares: layout.place(running * DOUBLE),
      products: layout.place(products * DOUBLE),
    };
    const { memory, exports } = DRIFT_WASM.open(layout.bytes);
    this.#memory = memory;
    this.#exports = exports;
    this.#sums = new Float64Array(memory, this.#at.sums, running);
    this.#squares = new Float64Array(memory, this.#at.squares, running);
    this.#products = new Float64Array(memory, this.#at.products, products);
  }

  /** Whose blocks are looked for from now on, and where: in the original as it looks after the similarity about its centre, bilinear, edges repeated. */
  aim(template: Plane, original: Plane, similarity: Similarity): void {
    const { width, height } = template;
    this.#template = template;
    this.#floats(this.#at.template, template.data.length).set(template.data);
    this.#floats(this.#at.original, original.data.length).set(original.data);
    const { zoom, x, y } = similarity;
    if (zoom === 1 && x === 0 && y === 0) this.#searched = this.#at.original;
    else {
      this.#setTaps(this.#at.columns, FLOAT, taps(width, zoom, x));
      this.#setTaps(this.#at.rows, FLOAT * width, taps(height, zoom, y));
      const { original: from, moved, columns, rows } = this.#at;
      this.#exports.warp(from, moved, width, height, columns, rows);
      this.#searched = moved;
    }
    // The first row and the first column; the others are written.
    for (const sums of [this.#sums, this.#squares]) {
      sums.fill(0, 0, width + 1);
      for (let row = 1; row <= height; row++) sums[row * (width + 1)] = 0;
    }
    this.#exports.runningSums(this.#searched, width, height, this.#at.sums, this.#at.squares);
  }

  /** Normalised correlation, -1..1, of a block of the template with what is `reach` pixels at most beside it, row by row from -reach to reach: all inside the planes. */
  correlations(block: Box, reach: number): number[] {
    const template = this.#template!;
    const [across, count] = [template.width + 1, block.width * block.height];
    const products = this.#productsWith(block, reach);
    const [a, aa] = ownSums(template, block);
    const scores: number[] = [];
    for (let dy = 0; dy < offsets(reach); dy++) {
      for (let dx = 0; dx < offsets(reach); dx++) {
        const place = { ...block, x: block.x + dx - reach, y: block.y + dy - reach };
        const b = rectangle(this.#sums, place, across);
        const bb = rectangle(this.#squares, place, across);
        const spread = (aa - (a * a) / count) * (bb - (b * b) / count);
        const product = products[dy * rowOfProducts(reach) + dx]!;
        scores.push(spread > 1e-6 ? (product - (a * b) / count) / Math.sqrt(spread) : 0);
      }
    }
    return scores;
  }

  #productsWith({ x, y, width, height }: Box, reach: number): Float64Array {
    const stride = this.#template!.width * FLOAT;
    const block = this.#at.template + y * stride + x * FLOAT;
    const other = this.#searched + (y - reach) * stride + (x - reach) * FLOAT;
    this.#exports.products(block, other, stride, width, height, offsets(reach), this.#at.products);
    return this.#products;
  }

  #setTaps(at: number, bytes: number, { near, far, share }: Taps): void {
    const places = new Int32Array(this.#memory, at, near.length * TAP);
    const shares = this.#floats(at, near.length * TAP);
    for (let i = 0; i < near.length; i++) {
      places[i * TAP] = near[i]! * bytes;
      places[i * TAP + 1] = far[i]! * bytes;
      shares[i * TAP + 2] = share[i]!;
    }
  }

  #floats(at: number, length: number): Float32Array {
    return new Float32Array(this.#memory, at, length);
  }
}

// Offsets along one side, and how many products lie in a row of them.
function offsets(reach: number): number {
  return 2 * reach + 1;
}

function rowOfProducts(reach: number): number {
  return Math.ceil(offsets(reach) / AT_ONCE) * AT_ONCE;
}

/** Standard deviation of a plane inside a block. */
export function deviation(plane: Plane, block: Box): number {
  const [sum, squares] = ownSums(plane, block);
  const count = block.width * block.height;
  return Math.sqrt(Math.max(squares / count - (sum / count) ** 2, 0));
}

function ownSums({ data, width }: Plane, { x, y, width: w, height: h }: Box): [number, number] {
  let sum = 0;
  let squares = 0;
  for (let row = y; row < y + h; row++) {
    for (let at = row * width + x; at < row * width + x + w; at++) {
      sum += data[at]!;
      squares += data[at]! * data[at]!;
    }
  }
  return [sum, squares];
}

function rectangle(sums: Float64Array, { x, y, width, height }: Box, across: number): number {
  const top = y * across + x;
  const bottom = (y + height) * across + x;
  return sums[bottom + width]! - sums[bottom]! - sums[top + width]! + sums[top]!;
}

/** The peak to fractions of a pixel, by a parabola each way; undefined when it is weak or at the rim of the search. */
export function bestOffset(scores: readonly number[], reach: number): [number, number] | undefined {
  const across = 2 * reach + 1;
  const peak = scores.indexOf(Math.max(...scores));
  const [x, y] = [peak % across, Math.floor(peak / across)];
  if (scores[peak]! < LEAST_CORRELATION || x === 0 || y === 0 || x === across - 1 || y === across - 1) return undefined;
  const vertex = (before: number, after: number) => {
    const curve = before - 2 * scores[peak]! + after;
    return curve < 0 ? (before - after) / (2 * curve) : 0;
  };
  return [
    x - reach + vertex(scores[peak - 1]!, scores[peak + 1]!),
    y - reach + vertex(scores[peak - across]!, scores[peak + across]!),
  ];
}

interface Taps {
  readonly near: Int32Array;
  readonly far: Int32Array;
  readonly share: Float32Array;
}

// For each place along one side the two inputs around where it came from, and the share of the second.
function taps(length: number, zoom: number, shift: number): Taps {
  const near = new Int32Array(length);
  const far = new Int32Array(length);
  const share = new Float32Array(length);
  const centre = (length - 1) / 2;
  const clamp = (index: number) => Math.min(Math.max(index, 0), length - 1);
  for (let i = 0; i < length; i++) {
    const position = (i - centre - shift) / zoom + centre;
    const before = Math.floor(position);
    near[i] = clamp(before);
    far[i] = clamp(before + 1);
    share[i] = position - before;
  }
  return { near, far, share };
}
