// How far two pictures of one size are apart, in 8-bit levels, and where.
import { withAlpha } from "../alpha.js";
import { CHANNELS, channelsOf, type Image } from "../image.js";

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

/** Compares two pictures of one size, their transparency too where either has some. */
export function pixelDifference(one: Image, other: Image): PixelDifference {
  const [a, b] = withSameChannels(one, other);
  const channels = channelsOf(a);
  let max = 0;
  let sum = 0;
  let squares = 0;
  let pixels = 0;
  for (let at = 0; at < a.data.length; at += channels) {
    let largest = 0;
    for (let i = at; i < at + channels; i++) {
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
    share: pixels / (count / channels),
  };
}

// Beside a picture with transparency, one without is opaque.
function withSameChannels(a: Image, b: Image): readonly [Image, Image] {
  return channelsOf(a) === channelsOf(b) ? [a, b] : [withAlpha(a), withAlpha(b)];
}

/** Colours of the heat map from no difference to the largest: nothing is black. */
const HEAT = [
  [0, 0, 0],
  [70, 10, 120],
  [200, 30, 70],
  [250, 150, 20],
  [255, 255, 230],
] as const;

/** Where two pictures of one size differ: black for not at all, through violet, red and orange to white for their largest difference. 3 channels. */
export function heatMap(one: Image, other: Image): Image {
  const [a, b] = withSameChannels(one, other);
  const { width, height } = a;
  const channels = channelsOf(a);
  const data = new Uint8Array(width * height * CHANNELS);
  const { max } = pixelDifference(a, b);
  if (max === 0) return { width, height, data };
  for (let from = 0, to = 0; to < data.length; from += channels, to += CHANNELS) {
    let largest = 0;
    for (let i = from; i < from + channels; i++) largest = Math.max(largest, Math.abs(a.data[i]! - b.data[i]!));
    // The root shows small differences beside a large one.
    data.set(heatOf(Math.sqrt(largest / max)), to);
  }
  return { width, height, data };
}

function heatOf(share: number): number[] {
  const place = share * (HEAT.length - 1);
  const below = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[below]!.map((level, channel) =>
    Math.round(level + (HEAT[below + 1]![channel]! - level) * (place - below)),
  );
}
