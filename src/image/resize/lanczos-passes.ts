// The two passes of Lanczos resampling in WebAssembly: lanczos.wat has the sums, this file the memory that they work in.
import { WasmLayout, WasmModule, wholeVectors } from "../../std/web-assembly.js";
import { LANCZOS_MODULE } from "./lanczos-module.js";

/** For each output position: the first input position and the integer weights from there on. */
export interface Taps {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly weights: Int32Array;
  /** Distance between the weights of neighbouring outputs. */
  readonly stride: number;
}

/** A picture's bytes [height, width, channels]. */
interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 3 | 4;
  readonly data: Uint8Array;
}

/** The passes that a resize needs; undefined: that side stays as it is. */
interface Passes {
  readonly horizontal: Taps | undefined;
  readonly vertical: Taps | undefined;
}

/** Rows of a result, from row y on. */
export interface Band {
  readonly y: number;
  readonly height: number;
  /** [height, width, channels]; of use until the next band is asked for. */
  readonly data: Uint8Array;
}

/** Rows that the horizontal pass takes at a time. */
const LANES = 4;
/** Rows of the source that are in its memory at a time, and of the result. */
const BAND = 64;
/** Bytes that may be read beyond the last pixel. */
const SPARE = 16;
const WORD = Int32Array.BYTES_PER_ELEMENT;

const MODULE = new WasmModule<"horizontal" | "vertical">(LANCZOS_MODULE);

/** The bytes of a picture after the passes, [height, width, channels], a few rows at a time from the top. */
export function* resampledBands(image: Pixels, { horizontal, vertical }: Passes): Generator<Band> {
  const { channels } = image;
  const width = horizontal?.starts.length ?? image.width;
  const height = vertical?.starts.length ?? image.height;
  // Rows that the vertical pass will not read need not be made.
  const [first, end] = vertical === undefined ? [0, image.height] : rowsRead(vertical);
  const rowBytes = width * channels;
  const row = wholeVectors(rowBytes + 1);
  const layout = new TableLayout();
  const band = horizontal && layout.place(BAND * image.width * channels + SPARE);
  const wide = layout.place(((vertical ? end - first : BAND) + LANES) * row);
  const result = vertical ? layout.place(BAND * row) : wide;
  const across = horizontal && layout.tables(horizontal, channels);
  const down = vertical && layout.tables({ ...vertical, starts: vertical.starts.map((start) => start - first) }, 1);
  const { bytes, exports } = layout.open();
  const made = new Uint8Array(BAND * rowBytes);
  const bandAt = (y: number, rows: number): Band => {
    for (let i = 0; i < rows; i += 1)
      made.set(bytes.subarray(result + i * row, result + i * row + rowBytes), i * rowBytes);
    return { y, height: rows, data: made.subarray(0, rows * rowBytes) };
  };
  for (let top = first; top < end; top += BAND) {
    const rows = Math.min(BAND, end - top);
    const target = wide + (vertical ? top - first : 0) * row;
    if (horizontal && band !== undefined && across) {
      const sourceRow = image.width * channels;
      bytes.set(image.data.subarray(top * sourceRow, (top + rows) * sourceRow), band);
      const whole = Math.ceil(rows / LANES) * LANES;
      exports.horizontal(band, sourceRow, target, row, whole, width, channels, ...across, horizontal.stride);
    } else
      for (let y = 0; y < rows; y += 1)
        bytes.set(image.data.subarray((top + y) * rowBytes, (top + y + 1) * rowBytes), target + y * row);
    if (vertical === undefined) yield bandAt(top, rows);
  }
  if (vertical === undefined || down === undefined) return;
  const [starts, counts, weights] = down;
  for (let y = 0; y < height; y += BAND) {
    const rows = Math.min(BAND, height - y);
    const places = [starts + y * WORD, counts + y * WORD, weights + y * vertical.stride * WORD] as const;
    exports.vertical(wide, row, result, rows, ...places, vertical.stride);
    yield bandAt(y, rows);
  }
}

function rowsRead({ starts, counts }: Taps): [number, number] {
  const last = starts.length - 1;
  return [starts[0]!, starts[last]! + counts[last]!];
}

// Where things lie in the memory of one resize, and the tables in it.
class TableLayout extends WasmLayout {
  readonly #tables: { readonly at: number; readonly words: Int32Array }[] = [];

  /** Places starts, times so many bytes, counts and weights. */
  tables({ starts, counts, weights }: Taps, bytes: number): readonly [number, number, number] {
    return [this.#table(starts.map((start) => start * bytes)), this.#table(counts), this.#table(weights)];
  }

  open() {
    const { memory, exports } = MODULE.open(this.bytes);
    for (const { at, words } of this.#tables) new Int32Array(memory, at, words.length).set(words);
    return { bytes: new Uint8Array(memory), exports };
  }

  #table(words: Int32Array): number {
    const at = this.place(words.byteLength);
    this.#tables.push({ at, words });
    return at;
  }
}
