// Masks, and how far each pixel lies from them: exact Euclidean distances in two passes of lower envelopes.
// Algorithm: Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012.
import type { Size } from "../image.js";

/** A mask: data [height, width], 1 inside and 0 outside. */
export interface Mask extends Size {
  readonly data: Uint8Array;
}

/** More than any distance in a picture, squared. */
const FAR = 1e12;

/** Distance of each pixel to the nearest one that is `value` in the mask, pixels; huge everywhere when there is none. */
export function distanceTo({ width, height, data }: Mask, value: 0 | 1): Float32Array {
  const squares = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) squares[i] = data[i] === value ? 0 : FAR;
  const longest = Math.max(width, height);
  const scratch = {
    line: new Float64Array(longest),
    vertices: new Int32Array(longest),
    borders: new Float64Array(longest + 1),
  };
  for (let x = 0; x < width; x++) envelope(squares, { start: x, stride: width, count: height }, scratch);
  for (let y = 0; y < height; y++) envelope(squares, { start: y * width, stride: 1, count: width }, scratch);
  return new Float32Array(squares.map(Math.sqrt));
}

/** The mask dilated: everything within `radius` pixels of it. */
export function dilated(mask: Mask, radius: number): Mask {
  return maskWhere(distanceTo(mask, 1), mask, (distance) => distance <= radius);
}

/** The mask eroded: what is further than `radius` pixels from its outside. */
export function eroded(mask: Mask, radius: number): Mask {
  return maskWhere(distanceTo(mask, 0), mask, (distance) => distance > radius);
}

/** The mask of where a value of [height, width] is as wanted. */
export function maskWhere(values: Float32Array, { width, height }: Size, isWanted: (value: number) => boolean): Mask {
  const data = new Uint8Array(values.length);
  // Float32Array.from and the like with a function make a list of all values first, which ends the process in very large pictures.
  for (let i = 0; i < values.length; i++) data[i] = Number(isWanted(values[i]!));
  return { width, height, data };
}

/** The mask without connected parts of fewer than `least` pixels. */
export function withoutSpecks({ width, height, data }: Mask, least: number): Mask {
  const kept = new Uint8Array(data.length);
  const seen = new Uint8Array(data.length);
  // The pixels of one part.
  const part = new Int32Array(data.length);
  for (let start = 0; start < data.length; start++) {
    if (data[start] === 0 || seen[start] === 1) continue;
    let found = 0;
    part[found++] = start;
    seen[start] = 1;
    for (let i = 0; i < found; i++) {
      const at = part[i]!;
      const x = at % width;
      for (const next of [x > 0 ? at - 1 : at, x < width - 1 ? at + 1 : at, at - width, at + width]) {
        if (data[next] !== 1 || seen[next] === 1) continue;
        seen[next] = 1;
        part[found++] = next;
      }
    }
    if (found >= least) for (let i = 0; i < found; i++) kept[part[i]!] = 1;
  }
  return { width, height, data: kept };
}

interface Line {
  readonly start: number;
  readonly stride: number;
  readonly count: number;
}

interface Scratch {
  readonly line: Float64Array;
  readonly vertices: Int32Array;
  readonly borders: Float64Array;
}

// One line of squared distances, in place: the lower envelope of the parabolas that stand on its values.
function envelope(squares: Float64Array, { start, stride, count }: Line, { line, vertices, borders }: Scratch): void {
  for (let i = 0; i < count; i++) line[i] = squares[start + i * stride]!;
  let last = 0;
  vertices[0] = 0;
  borders[0] = -Infinity;
  borders[1] = Infinity;
  for (let i = 1; i < count; i++) {
    let cross = crossing(line, vertices[last]!, i);
    while (cross <= borders[last]!) cross = crossing(line, vertices[--last]!, i);
    vertices[++last] = i;
    borders[last] = cross;
    borders[last + 1] = Infinity;
  }
  for (let i = 0, part = 0; i < count; i++) {
    while (borders[part + 1]! < i) part++;
    const vertex = vertices[part]!;
    squares[start + i * stride] = (i - vertex) ** 2 + line[vertex]!;
  }
}

function crossing(line: Float64Array, a: number, b: number): number {
  return (line[b]! + b * b - (line[a]! + a * a)) / (2 * (b - a));
}
