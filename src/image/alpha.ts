// Transparency of pictures: put on, taken off, and composited over white.
import { CHANNELS, channelsOf, type FloatImage, type Image, RGBA_CHANNELS } from "./image.js";

/** Transparency of a picture, [height, width], 0..255: 0 is transparent. */
export type AlphaPlane = Uint8Array;

/** The largest alpha: opaque. */
const OPAQUE = 255;

/** A picture of 3 channels with an alpha channel, opaque unless one is given. One that has alpha comes back as it is. */
export function withAlpha(image: Image, alpha?: AlphaPlane): Image {
  if (channelsOf(image) === RGBA_CHANNELS) return image;
  const { width, height, data } = image;
  if (alpha !== undefined && alpha.length !== width * height)
    throw new Error(`internal: alpha of ${alpha.length} pixels for a picture of ${width}x${height}`);
  const rgba = new Uint8Array(width * height * RGBA_CHANNELS);
  for (let pixel = 0, from = 0, to = 0; pixel < width * height; pixel++, from += CHANNELS, to += RGBA_CHANNELS) {
    rgba[to] = data[from]!;
    rgba[to + 1] = data[from + 1]!;
    rgba[to + 2] = data[from + 2]!;
    rgba[to + 3] = alpha === undefined ? OPAQUE : alpha[pixel]!;
  }
  return { width, height, channels: RGBA_CHANNELS, data: rgba };
}

/** The alpha channel of a picture; undefined of one that has none. */
export function alphaOf(image: Image): AlphaPlane | undefined {
  if (channelsOf(image) !== RGBA_CHANNELS) return undefined;
  const { data } = image;
  return Uint8Array.from({ length: data.length / RGBA_CHANNELS }, (_, pixel) => data[pixel * RGBA_CHANNELS + 3]!);
}

/** The picture without its alpha channel: the colours as they are stored, under what is transparent too. */
export function withoutAlpha(image: Image): Image {
  if (channelsOf(image) !== RGBA_CHANNELS) return image;
  const { width, height, data } = image;
  const rgb = new Uint8Array(width * height * CHANNELS);
  for (let from = 0, to = 0; from < data.length; from += RGBA_CHANNELS, to += CHANNELS) {
    rgb[to] = data[from]!;
    rgb[to + 1] = data[from + 1]!;
    rgb[to + 2] = data[from + 2]!;
  }
  return { width, height, data: rgb };
}

/** A model's alpha of an opaque picture is not exactly 255: from here on nobody sees through. */
const SEEN_AS_OPAQUE = 250;

/** The picture without its alpha channel if every pixel of it is opaque to the eye: alpha of 250 and more. */
export function withoutOpaque(image: Image): Image {
  return alphaOf(image)?.every((alpha) => alpha >= SEEN_AS_OPAQUE) ? withoutAlpha(image) : image;
}

/** The picture over white, of 3 channels: what of it is seen on white paper. One without alpha comes back as it is. */
export function overWhite<Picture extends Image | FloatImage>(image: Picture): Picture;
export function overWhite(image: Image | FloatImage): Image | FloatImage {
  if (channelsOf(image) !== RGBA_CHANNELS) return image;
  const { width, height, data } = image;
  const length = width * height * CHANNELS;
  if (data instanceof Uint8Array) return { width, height, data: composited(data, new Uint8Array(length), OPAQUE) };
  return { width, height, data: composited(data, new Float32Array(length), 1) };
}

// colour · alpha + white · (1 − alpha), bytes rounded to the nearest; `full` is white and opaque.
function composited<Values extends Uint8Array | Float32Array>(data: Values, rgb: Values, full: number): Values {
  const half = full === OPAQUE ? 0.5 : 0;
  for (let from = 0, to = 0; from < data.length; from += RGBA_CHANNELS, to += CHANNELS) {
    const alpha = data[from + 3]!;
    for (let channel = 0; channel < CHANNELS; channel++)
      rgb[to + channel] = (data[from + channel]! * alpha) / full + (full - alpha) + half;
  }
  return rgb;
}
