// Masks as they count: one level a pixel, and resized so that black stays black.
import { type Box, CHANNELS, type Image, type Size, wholeOf } from "../image.js";
import type { Step } from "../resize/resize.js";

/** A mask: data [height, width], from BLACK, nothing of the edit, to WHITE, all of it. */
export interface MaskLevels extends Size {
  readonly data: Uint8Array;
}

/** The lowest and the highest level. */
export const BLACK = 0;
export const WHITE = 255;

/** Means of the three channels up to this are black, as JPEG leaves it, and from that on white. */
const STILL_BLACK = 8;
const ALREADY_WHITE = 247;

/** The levels of a mask picture: the means of its channels. */
export function maskLevels({ width, height, data }: Image): MaskLevels {
  const levels = new Uint8Array(width * height);
  for (let pixel = 0, at = 0; pixel < levels.length; pixel++, at += CHANNELS) {
    const mean = (data[at]! + data[at + 1]! + data[at + 2]!) / 3;
    levels[pixel] = mean <= STILL_BLACK ? BLACK : mean >= ALREADY_WHITE ? WHITE : Math.round(mean);
  }
  return { width, height, data: levels };
}

/** The smallest box that holds everything of a mask that is not black; undefined if all of it is. */
export function maskBox({ width, height, data }: MaskLevels): Box | undefined {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (data[at] === BLACK) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0 ? undefined : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/** A mask that lies over all of a picture of `size` after the steps that were done to that picture; of those pixels those in box, all unless given. */
export function levelsAfter(
  mask: MaskLevels,
  { size, steps, box }: { readonly size: Size; readonly steps: readonly Step[]; readonly box: Box },
): MaskLevels {
  // Of a large picture only what is used is made.
  const [first, ...rest] = steps;
  if (first === undefined) return resized(mask, size, box);
  if (first.kind === "resize") return levelsAfter(resized(mask, size), { size: first.size, steps: rest, box });
  return levelsAfter(resized(mask, size, first.box), { size: first.box, steps: rest, box });
}

/**
 * The part inside box of a mask that is resized to size: means over the area of each pixel along a side that shrinks, linear in between along one that
 * grows. A pixel all of whose area is black is black.
 */
function resized(mask: MaskLevels, size: Size, box: Box = wholeOf(size)): MaskLevels {
  if (
    size.width === mask.width &&
    box.width === size.width &&
    size.height === mask.height &&
    box.height === size.height
  )
    return mask;
  const columns = tapsOf([mask.width, size.width], { start: box.x, count: box.width });
  const rows = tapsOf([mask.height, size.height], { start: box.y, count: box.height });
  // The rows of the mask that one row of the result is made of, resized along themselves.
  const made = new Map<number, Float64Array>();
  const rowAt = (y: number) => {
    const row = made.get(y) ?? alongRow(mask.data.subarray(y * mask.width, (y + 1) * mask.width), columns);
    made.set(y, row);
    return row;
  };
  const data = new Uint8Array(box.width * box.height);
  const sums = new Float64Array(box.width);
  for (let y = 0; y < box.height; y++) {
    const first = rows.first[y]!;
    for (const before of made.keys()) if (before < first) made.delete(before);
    sums.fill(0);
    for (let tap = 0; tap < rows.stride; tap++) {
      const weight = rows.weights[y * rows.stride + tap]!;
      if (weight === 0) continue;
      const row = rowAt(first + tap);
      for (let x = 0; x < sums.length; x++) sums[x]! += weight * row[x]!;
    }
    const isUsed = usedColumns(mask, rows.areas[2 * y]!, rows.areas[2 * y + 1]!);
    for (let x = 0; x < sums.length; x++)
      if (sums[x]! > 0 && isUsed.subarray(columns.areas[2 * x], columns.areas[2 * x + 1]).includes(1))
        data[y * box.width + x] = Math.round(sums[x]!);
  }
  return { width: box.width, height: box.height, data };
}

/** Of some outputs along one side: the inputs that each touches, from the first to behind the last; and what it is made of, weights from one input on. */
interface LevelTaps {
  readonly areas: Int32Array;
  readonly first: Int32Array;
  readonly weights: Float64Array;
  /** Weights of an output. */
  readonly stride: number;
}

function tapsOf([from, to]: [number, number], { start, count }: { start: number; count: number }): LevelTaps {
  const isGrowing = to > from;
  const stride = isGrowing ? 2 : Math.ceil(from / to) + 1;
  const areas = new Int32Array(2 * count);
  const first = new Int32Array(count);
  const weights = new Float64Array(stride * count);
  for (let i = 0; i < count; i++) {
    const [low, high] = [((start + i) * from) / to, ((start + i + 1) * from) / to];
    areas.set([Math.floor(low), Math.ceil(high)], 2 * i);
    const centre = Math.min(Math.max((low + high - 1) / 2, 0), from - 1);
    first[i] = Math.floor(isGrowing ? centre : low);
    const share = centre - Math.floor(centre);
    if (isGrowing) weights.set([1 - share, share], stride * i);
    else
      for (let input = first[i]!; input < high; input++)
        weights[stride * i + input - first[i]!] = ((Math.min(input + 1, high) - Math.max(input, low)) * to) / from;
  }
  return { areas, first, weights, stride };
}

function alongRow(row: Uint8Array, { first, weights, stride }: LevelTaps): Float64Array {
  const made = new Float64Array(first.length);
  for (let x = 0; x < made.length; x++)
    for (let tap = 0; tap < stride; tap++) {
      const weight = weights[x * stride + tap]!;
      if (weight > 0) made[x]! += weight * row[first[x]! + tap]!;
    }
  return made;
}

// 1 for each column that is not black in some of the rows.
function usedColumns({ width, data }: MaskLevels, top: number, bottom: number): Uint8Array {
  const used = new Uint8Array(width);
  for (let y = top; y < bottom; y++)
    for (let x = 0, at = y * width; x < width; x++, at++) if (data[at] !== BLACK) used[x] = 1;
  return used;
}
