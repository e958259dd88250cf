// What registration looks at: pictures reduced to luma at a working size, and the strength of their edges, which recolouring and inversion keep.
import { type Box, CHANNELS, type FloatImage, type Image, type Size } from "../image.js";

/** A plane of floats, row-major. */
export interface Plane extends Size {
  readonly data: Float32Array;
}

/** Weights of Rec. 709 luma. */
const LUMA = [0.2126, 0.7152, 0.0722] as const;

/** Luma 0..255 of the part of a picture inside box, as plain means over the area of each pixel of size, which is no larger than box. */
export function reducedLuma(image: Image | FloatImage, box: Box, size: Size): Plane {
  const scale = image.data instanceof Uint8Array ? 1 : 255;
  const columns = wholeRuns(bins(box.width, size.width), size.width);
  const rows = bins(box.height, size.height);
  const data = new Float32Array(size.width * size.height);
  const line = new Float32Array(size.width);
  const weight = (scale * size.width * size.height) / (box.width * box.height);
  for (let y = 0; y < box.height; y++) {
    sumLine(line, image.data, ((box.y + y) * image.width + box.x) * CHANNELS, columns);
    addLine(data, line, {
      row: rows.first[y]!,
      share: rows.share[y]! * weight,
      rest: (1 - rows.share[y]!) * weight,
      size,
    });
  }
  return { ...size, data };
}

// Sums of luma over each output of a line that begins at `from`: pixels that lie in one output are summed by channel, which of bytes is exact.
function sumLine(
  line: Float32Array,
  data: Uint8Array | Float32Array,
  from: number,
  { ends, shares }: ReturnType<typeof wholeRuns>,
): void {
  const [red, green, blue] = LUMA;
  let at = from;
  let carried = 0;
  for (let output = 0; output < line.length; output++) {
    const end = from + ends[output]! * CHANNELS;
    let r = 0;
    let g = 0;
    let b = 0;
    for (; at < end; at += CHANNELS) {
      r += data[at]!;
      g += data[at + 1]!;
      b += data[at + 2]!;
    }
    const whole = carried + red * r + green * g + blue * b;
    const share = shares[output]!;
    // A pixel on the border of two outputs.
    const split = share === 0 ? 0 : red * data[at]! + green * data[at + 1]! + blue * data[at + 2]!;
    if (share > 0) at += CHANNELS;
    line[output] = whole + share * split;
    carried = (1 - share) * split;
  }
}

function addLine(
  data: Float32Array,
  line: Float32Array,
  { row, share, rest, size }: { row: number; share: number; rest: number; size: Size },
): void {
  const start = row * size.width;
  for (let x = 0; x < size.width; x++) data[start + x]! += line[x]! * share;
  if (rest <= 0 || row + 1 >= size.height) return;
  for (let x = 0; x < size.width; x++) data[start + size.width + x]! += line[x]! * rest;
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

/** Edge strength: the square root of the gradient's length, over a light blur. The root keeps a few strong edges from deciding alone. */
export function edgeStrength({ width, height, data }: Plane): Plane {
  const smooth = blurred({ width, height, data });
  const edges = new Float32Array(data.length);
  for (let y = 1; y < height - 1; y++) {
    for (let at = y * width + 1; at < (y + 1) * width - 1; at++) {
      const dx = smooth[at + 1]! - smooth[at - 1]!;
      const dy = smooth[at + width]! - smooth[at - width]!;
      edges[at] = Math.sqrt(Math.sqrt(dx * dx + dy * dy));
    }
  }
  return { width, height, data: edges };
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

// Binomial 1 2 1 both ways.
function blurred({ width, data }: Plane): Float32Array {
  const wide = new Float32Array(data.length);
  const result = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const x = i % width;
    wide[i] = (data[x > 0 ? i - 1 : i]! + 2 * data[i]! + data[x < width - 1 ? i + 1 : i]!) / 4;
  }
  for (let i = 0; i < data.length; i++) {
    result[i] = (wide[i >= width ? i - width : i]! + 2 * wide[i]! + wide[i + width < data.length ? i + width : i]!) / 4;
  }
  return result;
}
