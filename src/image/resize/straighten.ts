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

/** The picture with its drift taken back. */
export function straightened(image: Image, { zoom, x, y }: Similarity): Image {
  const hasAlpha = channelsOf(image) === RGBA_CHANNELS;
  const across = along(hasAlpha ? premultiplied(image) : image, { isRow: true, zoom, shift: x });
  const straight = along(across, { isRow: false, zoom, shift: y });
  return hasAlpha ? unpremultiplied(straight) : straight;
}

function along(image: Image, { isRow, zoom, shift }: { isRow: boolean; zoom: number; shift: number }): Image {
  const { width, height, data } = image;
  const channels = channelsOf(image);
  const [length, others] = isRow ? [width, height] : [height, width];
  const [stride, otherStride] = isRow ? [channels, channels * width] : [channels * width, channels];
  const centre = (length - 1) / 2;
  const out = new Uint8Array(data.length);
  for (let i = 0; i < length; i++) {
    const at = (i - centre) * zoom + centre + shift;
    const first = Math.floor(at) - 1;
    const weights = keysWeights(at - Math.floor(at));
    const offsets = weights.map((_, tap) => Math.min(Math.max(first + tap, 0), length - 1) * stride);
    for (let other = 0; other < others; other++) {
      for (let base = other * otherStride, end = base + channels; base < end; base++) {
        let value = 0.5;
        for (let tap = 0; tap < TAPS; tap++) value += weights[tap]! * data[base + offsets[tap]!]!;
        out[base + i * stride] = value < 0 ? 0 : Math.min(value, 255);
      }
    }
  }
  return { ...image, data: out };
}

function keysWeights(t: number): number[] {
  const a = -0.5;
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}
