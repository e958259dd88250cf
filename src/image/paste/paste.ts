// Pasting back: the original's own pixels wherever an edit changed nothing, by a mask or by what was seen to have changed.
import { overWhite } from "../alpha.js";
import { type Box, CHANNELS, channelsOf, crop, type Image } from "../image.js";
import { visiblyChanged } from "./change.js";
import { dilated, distanceTo, type Mask, maskWhere } from "./distance.js";

/** Mask values up to this are black, as JPEG leaves them, and from that on white. */
const BLACK = 8;
const WHITE = 247;

/** How much of the result each pixel takes: data [height, width], 0..1. */
export interface Alpha {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
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
    maskWhere(levels, { width, height }, (level) => level > BLACK),
    feather,
  );
  return { width, height, data: inside.data.map((alpha, i) => alpha * (levels[i]! >= WHITE ? 1 : levels[i]! / 255)) };
}

/** The smallest box that holds everything of a mask picture that is not black; undefined if all of it is. */
export function maskBox({ width, height, data }: Image): Box | undefined {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let i = 0; i < width * height; i++) {
    if ((data[i * CHANNELS]! + data[i * CHANNELS + 1]! + data[i * CHANNELS + 2]!) / 3 <= BLACK) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = y;
  }
  return right < 0 ? undefined : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/** A picture with a smaller one laid over it at x, y. */
export function placed(picture: Image, part: Image, { x, y }: { readonly x: number; readonly y: number }): Image {
  const channels = channelsOf(picture);
  const data = Uint8Array.from(picture.data);
  for (let row = 0; row < part.height; row++) {
    const from = row * part.width * channels;
    data.set(part.data.subarray(from, from + part.width * channels), ((y + row) * picture.width + x) * channels);
  }
  return { ...picture, data };
}

/** The result where alpha is 1, the original where it is 0 and outside box, to the bit; both in between. All of one size. */
export function pasted(result: Image, original: Image, { alpha, box }: { alpha: Alpha; box: Box }): Image {
  const channels = channelsOf(original);
  const data = Uint8Array.from(original.data);
  for (let y = box.y; y < box.y + box.height; y++) {
    for (let x = box.x; x < box.x + box.width; x++) {
      const share = alpha.data[y * original.width + x]!;
      if (share <= 0) continue;
      const at = (y * original.width + x) * channels;
      const [made, kept] = channels === CHANNELS ? [share, 1 - share] : coloursOf(result, original, { at, share });
      for (let i = at; i < at + CHANNELS; i++) data[i] = Math.round(made * result.data[i]! + kept * original.data[i]!);
      if (channels !== CHANNELS)
        data[at + 3] = Math.round(share * result.data[at + 3]! + (1 - share) * original.data[at + 3]!);
    }
  }
  return { ...original, data };
}

// The shares of two colours in one of both, by their alpha, so that what is transparent colours no edge.
function coloursOf(result: Image, original: Image, { at, share }: { at: number; share: number }): [number, number] {
  const [made, kept] = [share * result.data[at + 3]!, (1 - share) * original.data[at + 3]!];
  return made + kept === 0 ? [share, 1 - share] : [made / (made + kept), kept / (made + kept)];
}

/**
 * The result with the original's own pixels around box, where the models saw nothing and the result repeats its edge pixels, unless the edge beside
 * them was changed: then they would stand out. Both of one size.
 */
export async function withOwnRim(result: Image, original: Image, box: Box): Promise<Image> {
  const { width, height } = original;
  if (box.width === width && box.height === height) return result;
  const changed = await visiblyChanged(overWhite(crop(result, box)), overWhite(crop(original, box)));
  const channels = channelsOf(result);
  const data = Uint8Array.from(result.data);
  const inside = (at: number, start: number, length: number) => Math.min(Math.max(at - start, 0), length - 1);
  for (let y = 0; y < height; y++) {
    const row = inside(y, box.y, box.height);
    for (let x = 0; x < width; x++) {
      const column = inside(x, box.x, box.width);
      if (row + box.y === y && column + box.x === x) continue;
      if (changed[row * box.width + column]! === 1) continue;
      const at = (y * width + x) * channels;
      data.set(original.data.subarray(at, at + channels), at);
    }
  }
  return { ...result, data };
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
