// How far two pictures of one size are apart, in 8-bit levels, and where.
import { CHANNELS, type Image } from "../image.js";

/** The difference of two pictures. */
export interface PixelDifference {
  readonly identical: boolean;
  /** Peak signal-to-noise ratio over all channels, decibels; undefined when identical. */
  readonly psnr: number | undefined;
  /** Largest difference of a channel, levels. */
  readonly max: number;
  /** Mean difference of a channel, levels. */
  readonly mean: number;
  /** Share of pixels that differ at all. */
  readonly share: number;
}

const WHITE = 255;

/** Compares two pictures of one size. */
export function pixelDifference(a: Image, b: Image): PixelDifference {
  let max = 0;
  let sum = 0;
  let squares = 0;
  let pixels = 0;
  for (let at = 0; at < a.data.length; at += CHANNELS) {
    let largest = 0;
    for (let i = at; i < at + CHANNELS; i++) {
      const difference = Math.abs(a.data[i]! - b.data[i]!);
      sum += difference;
      squares += difference * difference;
      if (difference > largest) largest = difference;
    }
    if (largest > 0) pixels++;
    if (largest > max) max = largest;
  }
  const count = a.data.length;
  return {
    identical: max === 0,
    psnr: max === 0 ? undefined : 10 * Math.log10((WHITE * WHITE * count) / squares),
    max,
    mean: sum / count,
    share: pixels / (count / CHANNELS),
  };
}

/** Colours of the heat map from no difference to the largest: nothing is black. */
const HEAT = [
  [0, 0, 0],
  [70, 10, 120],
  [200, 30, 70],
  [250, 150, 20],
  [255, 255, 230],
] as const;

/** Where two pictures of one size differ: black for not at all, through violet, red and orange to white for their largest difference. */
export function heatMap(a: Image, b: Image): Image {
  const data = new Uint8Array(a.data.length);
  const { max } = pixelDifference(a, b);
  if (max === 0) return { ...a, data };
  for (let at = 0; at < data.length; at += CHANNELS) {
    const largest = Math.max(
      Math.abs(a.data[at]! - b.data[at]!),
      Math.abs(a.data[at + 1]! - b.data[at + 1]!),
      Math.abs(a.data[at + 2]! - b.data[at + 2]!),
    );
    // The root shows small differences beside a large one.
    data.set(heatOf(Math.sqrt(largest / max)), at);
  }
  return { ...a, data };
}

function heatOf(share: number): number[] {
  const place = share * (HEAT.length - 1);
  const below = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[below]!.map((level, channel) =>
    Math.round(level + (HEAT[below + 1]![channel]! - level) * (place - below)),
  );
}
