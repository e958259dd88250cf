// Normalised cross-correlation of blocks of a plane with another plane around the same place, and that plane brought to another zoom and shift.

import type { Box } from "../image.js";
import type { Plane } from "./features.js";
import type { Similarity } from "./similarity.js";

/** Weaker peaks are no match: noise of a block's size reaches a third. */
const LEAST_CORRELATION = 0.5;

/** Offsets that a block is multiplied with at a time. */
const AT_ONCE = 4;

/** A plane with its running sums, so that the mean and spread of any rectangle cost nothing. */
export interface Searchable extends Plane {
  /** Of values, and of their squares, over everything above and left; one longer each way than the plane. */
  readonly sums: Float64Array;
  readonly squares: Float64Array;
}

/** Sums up a plane. */
export function searchable({ width, height, data }: Plane): Searchable {
  const across = width + 1;
  const sums = new Float64Array(across * (height + 1));
  const squares = new Float64Array(across * (height + 1));
  for (let y = 0; y < height; y++) {
    let sum = 0;
    let square = 0;
    for (let x = 0; x < width; x++) {
      const value = data[y * width + x]!;
      const at = (y + 1) * across + x + 1;
      sums[at] = sums[at - across]! + (sum += value);
      squares[at] = squares[at - across]! + (square += value * value);
    }
  }
  return { width, height, data, sums, squares };
}

/** Where to look for a block of the template: up to `reach` pixels around its own place, all inside the planes, which are of one size. */
export interface Search {
  readonly template: Plane;
  readonly searched: Searchable;
  readonly block: Box;
  readonly reach: number;
}

/** Normalised correlation, -1..1, for each offset, row by row from -reach to reach. */
export function correlations({ template, searched, block, reach }: Search): number[] {
  const { width } = template;
  const count = block.width * block.height;
  const [a, aa] = ownSums(template, block);
  const scores: number[] = [];
  const products = new Float64Array(AT_ONCE);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const ahead = (dx + reach) % AT_ONCE;
      if (ahead === 0) productsOf(products, template.data, searched.data, { block, width, shift: dy * width + dx });
      const place = { ...block, x: block.x + dx, y: block.y + dy };
      const b = rectangle(searched.sums, place, width + 1);
      const bb = rectangle(searched.squares, place, width + 1);
      const spread = (aa - (a * a) / count) * (bb - (b * b) / count);
      scores.push(spread > 1e-6 ? (products[ahead]! - (a * b) / count) / Math.sqrt(spread) : 0);
    }
  }
  return scores;
}

/** Standard deviation of a plane inside a block. */
export function deviation(plane: Plane, block: Box): number {
  const [sum, squares] = ownSums(plane, block);
  const count = block.width * block.height;
  return Math.sqrt(Math.max(squares / count - (sum / count) ** 2, 0));
}

function ownSums({ data, width }: Plane, { x, y, width: w, height: h }: Box): [number, number] {
  let sum = 0;
  let squares = 0;
  for (let row = y; row < y + h; row++) {
    for (let at = row * width + x; at < row * width + x + w; at++) {
      sum += data[at]!;
      squares += data[at]! * data[at]!;
    }
  }
  return [sum, squares];
}

function rectangle(sums: Float64Array, { x, y, width, height }: Box, across: number): number {
  const top = y * across + x;
  const bottom = (y + height) * across + x;
  return sums[bottom + width]! - sums[bottom]! - sums[top + width]! + sums[top]!;
}

// Products of a block with the places that are moved by shift, shift + 1 and so on: four sums that do not wait for each other, over values read once. Where
// they go beyond the search nobody reads them.
function productsOf(
  sums: Float64Array,
  a: Float32Array,
  b: Float32Array,
  { block, width, shift }: { block: Box; width: number; shift: number },
): void {
  let [first, second, third, fourth] = [0, 0, 0, 0];
  for (let row = block.y; row < block.y + block.height; row++) {
    const start = row * width + block.x;
    for (let at = start; at < start + block.width; at++) {
      const value = a[at]!;
      const moved = at + shift;
      first += value * b[moved]!;
      second += value * b[moved + 1]!;
      third += value * b[moved + 2]!;
      fourth += value * b[moved + 3]!;
    }
  }
  sums[0] = first;
  sums[1] = second;
  sums[2] = third;
  sums[3] = fourth;
}

/** The peak to fractions of a pixel, by a parabola each way; undefined when it is weak or at the rim of the search. */
export function bestOffset(scores: readonly number[], reach: number): [number, number] | undefined {
  const across = 2 * reach + 1;
  const peak = scores.indexOf(Math.max(...scores));
  const [x, y] = [peak % across, Math.floor(peak / across)];
  if (scores[peak]! < LEAST_CORRELATION || x === 0 || y === 0 || x === across - 1 || y === across - 1) return undefined;
  const vertex = (before: number, after: number) => {
    const curve = before - 2 * scores[peak]! + after;
    return curve < 0 ? (before - after) / (2 * curve) : 0;
  };
  return [
    x - reach + vertex(scores[peak - 1]!, scores[peak + 1]!),
    y - reach + vertex(scores[peak - across]!, scores[peak + across]!),
  ];
}

/** The plane as it looks after the similarity about its centre: bilinear, edges repeated. */
export function warp({ width, height, data }: Plane, { zoom, x, y }: Similarity): Plane {
  if (zoom === 1 && x === 0 && y === 0) return { width, height, data };
  const [cx, cy] = [(width - 1) / 2, (height - 1) / 2];
  const columns = taps(width, (i) => (i - cx - x) / zoom + cx);
  const rows = taps(height, (i) => (i - cy - y) / zoom + cy);
  const out = new Float32Array(data.length);
  for (let row = 0; row < height; row++) {
    const [upper, lower, down] = [rows.near[row]! * width, rows.far[row]! * width, rows.share[row]!];
    for (let column = 0; column < width; column++) {
      const [left, right, share] = [columns.near[column]!, columns.far[column]!, columns.share[column]!];
      const above = data[upper + left]! + (data[upper + right]! - data[upper + left]!) * share;
      const below = data[lower + left]! + (data[lower + right]! - data[lower + left]!) * share;
      out[row * width + column] = above + (below - above) * down;
    }
  }
  return { width, height, data: out };
}

function taps(
  length: number,
  place: (index: number) => number,
): { near: Int32Array; far: Int32Array; share: Float32Array } {
  const clamp = (index: number) => Math.min(Math.max(index, 0), length - 1);
  const at = Array.from({ length }, (_, index) => place(index));
  return {
    near: Int32Array.from(at, (position) => clamp(Math.floor(position))),
    far: Int32Array.from(at, (position) => clamp(Math.floor(position) + 1)),
    share: Float32Array.from(at, (position) => position - Math.floor(position)),
  };
}
