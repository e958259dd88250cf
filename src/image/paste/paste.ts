// Pasting back: the original's own pixels wherever an edit changed nothing, by a mask or by what is seen to have changed.

import { type Box, CHANNELS, type Image } from "../image.js";
import { dilated, distanceTo, eroded, type Mask, withoutSpecks } from "./distance.js";

/** Share of the longer side, in the units of its name: blur before comparing, gaps that close, and the side of the largest speck that is dropped. */
const BLUR = 1 / 512;
const GAP = 1 / 64;
const SPECK = 1 / 64;

/** Levels by which a channel must differ: what encoding and decoding does is below; a change of the whole picture's tone lifts it, so far. */
const THRESHOLD = { least: 16, most: 64, perMedian: 3, above: 8 };

/** Mask values up to this are black, as JPEG leaves them, and from that on white. */
const BLACK = 8;
const WHITE = 247;

/** How much of the result each pixel takes: data [height, width], 0..1. */
export interface Alpha {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
}

/** Where a result differs from the original, both of one size and lying over each other: joined up, without specks. */
export async function changedMask(result: Image, original: Image): Promise<Mask> {
  const { width, height } = result;
  const side = Math.max(width, height);
  const [a, b] = await Promise.all([blurred(result, side * BLUR), blurred(original, side * BLUR)]);
  const differences = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < differences.length; i++, at += CHANNELS) {
    differences[i] = Math.max(
      Math.abs(a[at]! - b[at]!),
      Math.abs(a[at + 1]! - b[at + 1]!),
      Math.abs(a[at + 2]! - b[at + 2]!),
    );
  }
  const { least, most, perMedian, above } = THRESHOLD;
  const threshold = Math.min(Math.max(median(differences) * perMedian + above, least), most);
  const gap = Math.max(side * GAP, 2);
  const mask = { width, height, data: differences.map((level) => Number(level > threshold)) };
  return eroded(dilated(withoutSpecks(mask, Math.max((side * SPECK) ** 2 / 4, 4)), gap), gap);
}

/** Alpha of a detected change: all of the result there, fading out over `feather` pixels around it. */
export function alphaAround(mask: Mask, feather: number): Alpha {
  return alphaInside(dilated(mask, feather + 1), feather);
}

/** Alpha of a mask picture, white where the edit belongs: greys count in part, and edges fade over `feather` pixels inside; black keeps nothing of the result. */
export function alphaOfPicture({ width, height, data }: Image, feather: number): Alpha {
  const levels = Float32Array.from(
    { length: width * height },
    (_, i) => (data[i * CHANNELS]! + data[i * CHANNELS + 1]! + data[i * CHANNELS + 2]!) / 3,
  );
  const inside = alphaInside(
    { width, height, data: Uint8Array.from(levels, (level) => Number(level > BLACK)) },
    feather,
  );
  return { width, height, data: inside.data.map((alpha, i) => alpha * (levels[i]! >= WHITE ? 1 : levels[i]! / 255)) };
}

/** The result where alpha is 1, the original where it is 0 and outside box, to the bit; both in between. All of one size. */
export function pasted(result: Image, original: Image, { alpha, box }: { alpha: Alpha; box: Box }): Image {
  const data = Uint8Array.from(original.data);
  for (let y = box.y; y < box.y + box.height; y++) {
    for (let x = box.x; x < box.x + box.width; x++) {
      const share = alpha.data[y * original.width + x]!;
      if (share <= 0) continue;
      const at = (y * original.width + x) * CHANNELS;
      for (let i = at; i < at + CHANNELS; i++)
        data[i] = Math.round(share * result.data[i]! + (1 - share) * original.data[i]!);
    }
  }
  return { width: original.width, height: original.height, data };
}

/** Share of the pixels that take anything from the result. */
export function editedShare({ data }: Alpha): number {
  return data.reduce((count, alpha) => count + Number(alpha > 0), 0) / data.length;
}

function alphaInside(mask: Mask, feather: number): Alpha {
  const { width, height } = mask;
  const ramp = (distance: number) => {
    const t = Math.min(distance / (feather + 1), 1);
    return t * t * (3 - 2 * t);
  };
  return { width, height, data: distanceTo(mask, 0).map(ramp) };
}

async function blurred({ width, height, data }: Image, sigma: number): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp");
  // sharp takes no smaller one.
  return sharp(data, { raw: { width, height, channels: CHANNELS } })
    .blur(Math.max(sigma, 0.5))
    .raw()
    .toBuffer();
}

function median(levels: Uint8Array): number {
  const counts = new Uint32Array(256);
  for (const level of levels) counts[level]!++;
  let left = levels.length / 2;
  return counts.findIndex((count) => (left -= count) <= 0);
}
