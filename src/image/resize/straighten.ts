// Takes a measured drift back: the result as it would look had it not zoomed and shifted. Keys' cubic with A = -0.5, edges repeated.

import type { Similarity } from "../compare/similarity.js";
import { type Box, channelsOf, type Image, RGBA_CHANNELS, type Size } from "../image.js";
import { premultiplied, unpremultiplied } from "./premultiply.js";

const TAPS = 4;

/** Drift below this is invisible and not worth resampling for, pixels at the picture's corner. */
const VISIBLE = 0.25;

/** Whether a drift moves some pixel of a picture visibly. */
export function isVisible({ zoom, x, y }: Similarity, { width, height }: Size): boolean {
  return Math.abs(zoom - 1) * (Math.hypot(width, height) / 2) + Math.hypot(x, y) >= VISIBLE;
}

/** The part of box that a drifted picture still shows once it is straightened: what moved beyond its rim is lost. */
export function shownPart(box: Box, { zoom, x, y }: Similarity, { width, height }: Size): Box {
  const columns = shownRange({ start: box.x, length: box.width }, { zoom, shift: x, side: width });
  const rows = shownRange({ start: box.y, length: box.height }, { zoom, shift: y, side: height });
  return { x: columns.start, y: rows.start, width: columns.length, height: rows.length };
}

// Positions that are read at least a tap from the rim.
function shownRange(
  { start, length }: { start: number; length: number },
  { zoom, shift, side }: { zoom: number; shift: number; side: number },
): { start: number; length: number } {
  const centre = (side - 1) / 2;
  const source = (at: number) => (at - centre - shift) / zoom + centre;
  const first = Math.max(Math.ceil(source(1)), start);
  const end = Math.min(Math.floor(source(side - 2)) + 1, start + length);
  return { start: first, length: Math.max(end - first, 0) };
}

/** The picture with the drift of what is inside box taken back there; around it nothing changes. */
export function straightened(
  image: Image,
  { zoom, x, y }: Similarity,
  box: Box = { x: 0, y: 0, width: image.width, height: image.height },
): Image {
  const channels = channelsOf(image);
  const hasAlpha = channels === RGBA_CHANNELS;
  const across = taps(box.width, { zoom, shift: x, stride: channels });
  const down = taps(box.height, { zoom, shift: y, stride: 1 });
  const rowBytes = box.width * channels;
  const startOf = (row: number) => ((box.y + row) * image.width + box.x) * channels;
  // The rows that the next one is made of: each is needed for a few in a row.
  const made = new Map<number, Uint8Array>();
  const rowAt = (row: number) => {
    let straight = made.get(row);
    if (straight === undefined) {
      const from = image.data.subarray(startOf(row), startOf(row) + rowBytes);
      const source = hasAlpha ? premultiplied({ ...image, width: box.width, height: 1, data: from }).data : from;
      straight = new Uint8Array(rowBytes);
      straightenRow(source, straight, { ...across, channels });
      if (made.size >= 2 * TAPS) made.delete(made.keys().next().value!);
      made.set(row, straight);
    }
    return straight;
  };
  const data = Uint8Array.from(image.data);
  for (let row = 0; row < box.height; row++) {
    const weights = down.weights.subarray(row * TAPS, (row + 1) * TAPS);
    const rows = Array.from(down.offsets.subarray(row * TAPS, (row + 1) * TAPS), rowAt);
    const to = data.subarray(startOf(row), startOf(row) + rowBytes);
    mixRows(rows, weights, to);
    if (hasAlpha) to.set(unpremultiplied({ ...image, width: box.width, height: 1, data: to }).data);
  }
  return { ...image, data };
}

/** For each place along one side the distances from the beginning of its four inputs, and their weights. */
interface KeysTaps {
  readonly offsets: Int32Array;
  readonly weights: Float64Array;
}

function taps(length: number, { zoom, shift, stride }: { zoom: number; shift: number; stride: number }): KeysTaps {
  const offsets = new Int32Array(length * TAPS);
  const weights = new Float64Array(length * TAPS);
  const centre = (length - 1) / 2;
  for (let i = 0; i < length; i++) {
    const at = (i - centre) * zoom + centre + shift;
    const first = Math.floor(at) - 1;
    weights.set(keysWeights(at - Math.floor(at)), i * TAPS);
    for (let tap = 0; tap < TAPS; tap++)
      offsets[i * TAPS + tap] = Math.min(Math.max(first + tap, 0), length - 1) * stride;
  }
  return { offsets, weights };
}

function straightenRow(
  from: Uint8Array,
  to: Uint8Array,
  { offsets, weights, channels }: KeysTaps & { readonly channels: number },
): void {
  for (let at = 0, tap = 0; at < to.length; tap += TAPS) {
    for (let channel = 0; channel < channels; channel++, at++) {
      const value =
        0.5 +
        weights[tap]! * from[channel + offsets[tap]!]! +
        weights[tap + 1]! * from[channel + offsets[tap + 1]!]! +
        weights[tap + 2]! * from[channel + offsets[tap + 2]!]! +
        weights[tap + 3]! * from[channel + offsets[tap + 3]!]!;
      to[at] = value < 0 ? 0 : Math.min(value, 255);
    }
  }
}

function mixRows(rows: readonly Uint8Array[], weights: Float64Array, to: Uint8Array): void {
  const [a, b, c, d] = rows as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const [p, q, r, s] = weights as unknown as [number, number, number, number];
  for (let at = 0; at < to.length; at++) {
    const value = 0.5 + p * a[at]! + q * b[at]! + r * c[at]! + s * d[at]!;
    to[at] = value < 0 ? 0 : Math.min(value, 255);
  }
}

function keysWeights(t: number): number[] {
  const a = -0.5;
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}
