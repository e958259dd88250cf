// What registration looks at: pictures reduced to luma at a working size, of which it takes the strength of edges.
import { type Box, CHANNELS, type FloatImage, type Image, type Size } from "../image.js";
import { FULL_WORD, LumaRows, MOST_SUMMED_ROWS, type Plane } from "./drift-wasm.js";

/** Luma of a float of 1. */
const FULL_LUMA = 255;

/** Luma 0..255 of the part of a picture inside box, as plain means over the area of each pixel of size, which is no larger than box. */
export function reducedLuma(image: Image | FloatImage, box: Box, size: Size): Plane {
  const rows = bins(box.height, size.height);
  const { data } = image;
  const scale = data instanceof Uint8Array ? 1 : FULL_LUMA / FULL_WORD;
  const weight = (scale * size.width * size.height) / (box.width * box.height);
  const columns = wholeRuns(bins(box.width, size.width), size.width);
  const most = Math.min(Math.ceil(box.height / size.height) + 1, MOST_SUMMED_ROWS);
  const luma = new LumaRows({ pixels: box.width, most, columns, size });
  const rowAt = (y: number) => {
    const from = ((box.y + y) * image.width + box.x) * CHANNELS;
    return data.subarray(from, from + box.width * CHANNELS);
  };
  for (const { y, end } of summedRows(rows, data instanceof Uint8Array ? most : 1)) {
    const share = rows.share[y]!;
    const added = Array.from({ length: end - y }, (_, i) => rowAt(y + i));
    luma.add(added, { row: rows.first[y]!, share: share * weight, rest: (1 - share) * weight });
  }
  return { ...size, data: luma.plane() };
}

// Rows that are added at a time: of those that lie wholly in one row of the result up to so many, the others by themselves.
function* summedRows(
  { first, share }: ReturnType<typeof bins>,
  most: number,
): Generator<{ readonly y: number; readonly end: number }> {
  for (let y = 0, end = 1; y < first.length; y = end++) {
    if (share[y] === 1) while (end - y < most && first[end] === first[y] && share[end] === 1) end++;
    yield { y, end };
  }
}

// For each of `from` inputs the first of `to` outputs that it touches, and the share that falls there; the rest falls into the next one.
function bins(from: number, to: number): { readonly first: Int32Array; readonly share: Float64Array } {
  const first = new Int32Array(from);
  const share = new Float64Array(from);
  for (let i = 0; i < from; i++) {
    const begin = (i * to) / from;
    const end = ((i + 1) * to) / from;
    first[i] = Math.min(Math.floor(begin + 1e-9), to - 1);
    share[i] = Math.min((first[i]! + 1 - begin) / (end - begin), 1);
  }
  return { first, share };
}

// Of each output the end of the inputs that lie wholly in it, and the share that it has of the next input, 0 where that lies wholly in the next output.
function wholeRuns(
  { first, share }: ReturnType<typeof bins>,
  outputs: number,
): { readonly ends: Int32Array; readonly shares: Float64Array } {
  const ends = new Int32Array(outputs);
  const shares = new Float64Array(outputs);
  let input = 0;
  for (let output = 0; output < outputs; output++) {
    while (input < first.length && first[input] === output && share[input] === 1) input++;
    ends[output] = input;
    if (first[input] === output) shares[output] = share[input++]!;
  }
  return { ends, shares };
}

/** Halves a plane by means of 2 × 2; an odd last row or column is dropped. */
export function halved({ width, height, data }: Plane): Plane {
  const half = { width: Math.floor(width / 2), height: Math.floor(height / 2) };
  const values = new Float32Array(half.width * half.height);
  for (let y = 0; y < half.height; y++) {
    for (let x = 0; x < half.width; x++) {
      const at = 2 * y * width + 2 * x;
      values[y * half.width + x] = (data[at]! + data[at + 1]! + data[at + width]! + data[at + width + 1]!) / 4;
    }
  }
  return { ...half, data: values };
}
