// Pasting back: the original's own pixels wherever an edit changed nothing, by a mask or by what was seen to have changed.
import { type Box, CHANNELS, channelsOf, type Image, type Size } from "../image.js";
import { visiblyChanged } from "./change.js";
import { dilated, distanceRows, type Mask } from "./distance.js";
import { BLACK, type MaskLevels, WHITE } from "./mask-levels.js";

/** How much of the result each pixel takes, 0..1, row by row from the top. Every row is given in the same memory. */
export interface Alpha extends Size {
  readonly rows: Iterable<Float32Array>;
}

/** Alpha of a detected change: all of the result there, fading out over `feather` pixels around it. */
export function alphaAround(mask: Mask, feather: number): Alpha {
  return alphaInside(dilated(mask, feather + 1), feather);
}

/** Alpha of a mask, white where the edit belongs: greys count in part, and edges fade over `feather` pixels inside; black keeps nothing of the result. */
export function alphaOfLevels(levels: MaskLevels, feather: number): Alpha {
  const inside = alphaInside(levels, feather);
  return { ...inside, rows: partly(inside.rows, levels) };
}

function* partly(rows: Iterable<Float32Array>, { width, data }: MaskLevels): Generator<Float32Array> {
  let at = 0;
  for (const row of rows) {
    for (let x = 0; x < width; x++, at++) if (data[at] !== WHITE) row[x] = (row[x]! * data[at]!) / WHITE;
    yield row;
  }
}

/** Where a picture is pasted: alpha lies over the pictures with its upper left corner at x, y; nothing outside box is pasted. */
interface Pasting {
  readonly alpha: Alpha;
  readonly at: { readonly x: number; readonly y: number };
  readonly box: Box;
}

/** A picture that was pasted together, and how many of its pixels are not the original's. */
export interface Pasted {
  readonly image: Image;
  readonly changed: number;
}

/** The result where alpha is 1, the original where it is 0, outside alpha and outside box, to the bit; both in between. Both of one size. */
export function pasted(result: Image, original: Image, { alpha, at: { x: left, y: top }, box }: Pasting): Pasted {
  const channels = channelsOf(original);
  const data = Uint8Array.from(original.data);
  let changed = 0;
  let y = top;
  for (const row of alpha.rows) {
    if (y >= box.y && y < box.y + box.height)
      for (let x = box.x; x < box.x + box.width; x++) {
        const share = row[x - left]!;
        if (share <= 0) continue;
        const at = (y * original.width + x) * channels;
        if (channels === CHANNELS) mix(data, result.data, { at, made: share, kept: 1 - share });
        else mixTransparent(data, result.data, { at, share });
        for (let i = at; i < at + channels; i++)
          if (data[i] !== original.data[i]) {
            changed++;
            break;
          }
      }
    y++;
  }
  return { image: { ...original, data }, changed };
}

function mix(
  data: Uint8Array,
  result: Uint8Array,
  { at, made, kept }: { at: number; made: number; kept: number },
): void {
  for (let i = at; i < at + CHANNELS; i++) data[i] = Math.round(made * result[i]! + kept * data[i]!);
}

// Of two colours the shares in one of both go by their alpha too, so that what is transparent colours no edge.
function mixTransparent(data: Uint8Array, result: Uint8Array, { at, share }: { at: number; share: number }): void {
  const [made, kept] = [share * result[at + CHANNELS]!, (1 - share) * data[at + CHANNELS]!];
  const sum = made + kept;
  mix(data, result, sum === 0 ? { at, made: share, kept: 1 - share } : { at, made: made / sum, kept: kept / sum });
  data[at + CHANNELS] = Math.round(sum);
}

/**
 * The result with the original's own pixels around box, where the models saw nothing and the result repeats its edge pixels, unless the edge beside
 * them was changed: then they would stand out. Both of one size.
 */
export async function withOwnRim(result: Image, original: Image, box: Box): Promise<Image> {
  const { width, height } = original;
  if (box.width === width && box.height === height) return result;
  const channels = channelsOf(result);
  const [right, bottom] = [box.x + box.width, box.y + box.height];
  const changedIn = (part: Partial<Box>) => visiblyChanged(result, original, { part: { ...box, ...part }, box });
  const row = (y: number) => changedIn({ y, height: 1 });
  const column = (x: number) => changedIn({ x, width: 1 });
  const [above, below, before, after] = [
    await row(box.y),
    await row(bottom - 1),
    await column(box.x),
    await column(right - 1),
  ];
  const data = Uint8Array.from(result.data);
  const keep = (x: number, y: number) => {
    const at = (y * width + x) * channels;
    for (let i = at; i < at + channels; i++) data[i] = original.data[i]!;
  };
  for (let y = 0; y < height; y++) {
    if (y < box.y || y >= bottom) {
      const edge = y < box.y ? above : below;
      for (let x = 0; x < width; x++) if (edge[Math.min(Math.max(x - box.x, 0), box.width - 1)] === 0) keep(x, y);
    } else {
      if (before[y - box.y] === 0) for (let x = 0; x < box.x; x++) keep(x, y);
      if (after[y - box.y] === 0) for (let x = right; x < width; x++) keep(x, y);
    }
  }
  return { ...result, data };
}

function alphaInside(mask: Mask, feather: number): Alpha {
  const { width, height } = mask;
  return { width, height, rows: ramped(distanceRows(mask, BLACK, feather + 1), feather) };
}

function* ramped(rows: Iterable<Float32Array>, feather: number): Generator<Float32Array> {
  for (const row of rows) {
    for (let x = 0; x < row.length; x++) {
      if (row[x] === 0) continue;
      const t = Math.min(row[x]! / (feather + 1), 1);
      row[x] = t * t * (3 - 2 * t);
    }
    yield row;
  }
}
