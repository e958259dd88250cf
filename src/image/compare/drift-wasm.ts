// The WebAssembly of drift.wat: luma of rows of pixels, and the strength of edges.
import { WasmLayout, WasmModule, wholeVectors } from "../../std/web-assembly.js";
import { CHANNELS, type Size } from "../image.js";
import { DRIFT_MODULE } from "./drift-module.js";

/** A plane of floats, row-major. */
export interface Plane extends Size {
  readonly data: Float32Array;
}

/** What drift.wat exports. */
export const DRIFT_WASM = new WasmModule<
  "columnSums" | "addLuma" | "blur" | "gradients" | "warp" | "runningSums" | "products"
>(DRIFT_MODULE);

/** The largest of the 16-bit sums of which luma is taken, and what a float of 1 becomes. */
export const FULL_WORD = 0xffff;

/** Rows of bytes whose sums fit in 16 bits: 257. */
export const MOST_SUMMED_ROWS = Math.floor(FULL_WORD / 0xff);

const FLOAT = Float32Array.BYTES_PER_ELEMENT;
const WORD = Uint16Array.BYTES_PER_ELEMENT;

/** Of each output of a row the end of the pixels that lie wholly in it, and the share that it has of the next one, 0 where that lies wholly in the next output. */
export interface WholeRuns {
  readonly ends: Int32Array;
  readonly shares: Float64Array;
}

interface LumaRowsOptions {
  /** Of a row of the picture. */
  readonly pixels: number;
  /** Most rows of bytes that are added at a time, at most 257. */
  readonly most: number;
  readonly columns: WholeRuns;
  /** Of the plane. */
  readonly size: Size;
}

/** The row of the plane that rows of a picture fall into, the share of them that falls there, and the rest, which falls into the next one. */
interface RowShares {
  readonly row: number;
  readonly share: number;
  readonly rest: number;
}

/** A plane of luma that rows of a picture are added to. */
export class LumaRows {
  readonly #memory: ArrayBuffer;
  readonly #exports: ReturnType<typeof DRIFT_WASM.open>["exports"];
  readonly #at: Readonly<Record<"bytes" | "words" | "ends" | "shares" | "plane", number>>;
  readonly #stride: number;
  readonly #size: Size;

  constructor({ pixels, most, columns, size }: LumaRowsOptions) {
    this.#stride = wholeVectors(pixels * CHANNELS);
    this.#size = size;
    const layout = new WasmLayout();
    this.#at = {
      bytes: layout.place(this.#stride * most),
      words: layout.place(this.#stride * WORD),
      ends: layout.place(columns.ends.byteLength),
      shares: layout.place(columns.shares.byteLength),
      // A row more: the last one may have a rest too, which is nothing.
      plane: layout.place(size.width * (size.height + 1) * FLOAT),
    };
    const { memory, exports } = DRIFT_WASM.open(layout.bytes);
    this.#memory = memory;
    this.#exports = exports;
    const ends = columns.ends.map((end) => end * CHANNELS * WORD);
    new Int32Array(memory, this.#at.ends, ends.length).set(ends);
    new Float64Array(memory, this.#at.shares, columns.shares.length).set(columns.shares);
  }

  /** Adds the sum of rows of bytes, or one row of floats 0..1, times a share to a row of the plane, and times the rest to the next one. */
  add(rows: readonly (Uint8Array | Float32Array)[], { row, share, rest }: RowShares): void {
    const [first] = rows;
    if (first instanceof Float32Array) this.#setWords(first);
    else this.#sumBytes(rows);
    const { words, ends, shares, plane } = this.#at;
    const { width } = this.#size;
    const target = plane + row * width * FLOAT;
    this.#exports.addLuma(words, width, ends, shares, target, share, target + width * FLOAT, rest);
  }

  #setWords(row: Float32Array): void {
    const words = new Uint16Array(this.#memory, this.#at.words, row.length);
    for (let i = 0; i < row.length; i++) words[i] = Math.round(Math.min(Math.max(row[i]!, 0), 1) * FULL_WORD);
  }

  #sumBytes(rows: readonly ArrayLike<number>[]): void {
    const { bytes, words } = this.#at;
    const set = new Uint8Array(this.#memory, bytes, this.#stride * rows.length);
    for (const [i, row] of rows.entries()) set.set(row, i * this.#stride);
    this.#exports.columnSums(bytes, this.#stride, rows.length, words);
  }

  /** What has been added up, [height, width]. */
  plane(): Float32Array {
    return new Float32Array(this.#memory, this.#at.plane, this.#size.width * this.#size.height).slice();
  }
}

/**
 * A function that gives the edge strength of planes of at most this size: the square root of the gradient's length, over a light blur (1 2 1 both ways,
 * edges repeated). The root keeps a few strong edges from deciding alone. A pixel at the rim has none.
 */
export function edgeFinder({ width: widest, height: tallest }: Size): (plane: Plane) => Plane {
  const layout = new WasmLayout();
  // A gradient is taken of a row before the first and one behind the last too, which nobody reads.
  const place = () => layout.place(rimmedRow(widest) * (tallest + 4));
  const [rimmed, blurred, smooth, edges] = [place(), place(), place(), place()];
  const { memory, exports } = DRIFT_WASM.open(layout.bytes);
  return ({ width, height, data }) => {
    const stride = rimmedRow(width);
    const floats = stride / FLOAT;
    const source = new Float32Array(memory, rimmed, floats * (height + 2));
    // A pixel more on every side.
    for (let y = -1; y <= height; y++) {
      const from = Math.min(Math.max(y, 0), height - 1) * width;
      const to = (y + 1) * floats;
      source.set(data.subarray(from, from + width), to + 1);
      source[to] = data[from]!;
      source[to + width + 1] = data[from + width - 1]!;
    }
    exports.blur(rimmed, blurred, stride * height, stride);
    exports.blur(blurred, smooth + stride, stride * height, FLOAT);
    exports.gradients(smooth + stride, edges, stride * height, stride);
    const found = new Float32Array(data.length);
    for (let y = 1; y < height - 1 && width > 2; y++)
      found.set(new Float32Array(memory, edges + y * stride + FLOAT, width - 2), y * width + 1);
    return { width, height, data: found };
  };
}

// Bytes of a row with a pixel more on both sides.
function rimmedRow(width: number): number {
  return wholeVectors((width + 2) * FLOAT);
}
