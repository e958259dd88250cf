// Colours multiplied by their alpha and back, in Pillow's integers.
// https://github.com/python-pillow/Pillow/blob/12.0.0/src/libImaging/Convert.c (RGBA to RGBa and back)
import { divideBy255 } from "../divide-by-255.js";
import { type Image, RGBA_CHANNELS } from "../image.js";

/** A picture with alpha with its colours multiplied by it. */
export function premultiplied(image: Image): Image {
  return { ...image, data: byPixel(image.data, (colour, alpha) => divideBy255(colour * alpha)) };
}

/** The reverse of premultiplied; colours without any alpha stay as they are. */
export function unpremultiplied(image: Image): Image {
  return {
    ...image,
    data: byPixel(image.data, (colour, alpha) =>
      alpha === 0 ? colour : Math.min(Math.trunc((colour * 255) / alpha), 255),
    ),
  };
}

function byPixel(from: Uint8Array, convert: (colour: number, alpha: number) => number): Uint8Array {
  const data = Uint8Array.from(from);
  for (let at = 0; at < data.length; at += RGBA_CHANNELS) {
    const alpha = from[at + 3]!;
    if (alpha === 255) continue;
    for (let channel = at; channel < at + 3; channel++) data[channel] = convert(from[channel]!, alpha);
  }
  return data;
}
