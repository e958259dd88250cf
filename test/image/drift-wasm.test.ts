// The WebAssembly of the measurement of drift gives the numbers of plain loops.
import { expect, test } from "vitest";
import { BlockMatcher } from "../../src/image/compare/correlation.js";
import { edgeFinder, type Plane } from "../../src/image/compare/drift-wasm.js";
import { reducedLuma } from "../../src/image/compare/features.js";
import type { Similarity } from "../../src/image/compare/similarity.js";
import type { Box } from "../../src/image/image.js";

function random(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) / 2 ** 32;
}

function plane(width: number, height: number, seed: number): Plane {
  const next = random(seed);
  return { width, height, data: Float32Array.from({ length: width * height }, () => next() * 16) };
}

// Over a blur of 1 2 1 both ways, edges repeated, the square root of the gradient's length; none at the rim.
function plainEdges({ width, height, data }: Plane): Float32Array {
  const at = (from: ArrayLike<number>, x: number, y: number) =>
    from[Math.min(Math.max(y, 0), height - 1) * width + Math.min(Math.max(x, 0), width - 1)]!;
  const each = (value: (x: number, y: number) => number) =>
    Float32Array.from({ length: width * height }, (_, i) => value(i % width, Math.floor(i / width)));
  const wide = each((x, y) => (at(data, x - 1, y) + 2 * at(data, x, y) + at(data, x + 1, y)) / 4);
  const smooth = each((x, y) => (at(wide, x, y - 1) + 2 * at(wide, x, y) + at(wide, x, y + 1)) / 4);
  return each((x, y) => {
    if (x === 0 || y === 0 || x === width - 1 || y === height - 1) return 0;
    const dx = at(smooth, x + 1, y) - at(smooth, x - 1, y);
    const dy = at(smooth, x, y + 1) - at(smooth, x, y - 1);
    return Math.sqrt(Math.sqrt(dx * dx + dy * dy));
  });
}

test("the strength of edges is that of plain loops in planes of every size", () => {
  const edges = edgeFinder({ width: 40, height: 30 });
  for (const [width, height] of [
    [40, 30],
    [3, 3],
    [17, 4],
    [4, 17],
    [2, 9],
    [9, 1],
    [40, 30],
  ] as const) {
    const from = plane(width, height, width + height);
    const { data, ...size } = edges(from);
    expect(size).toEqual({ width, height });
    for (const [at, strength] of plainEdges(from).entries()) expect(data[at]).toBeCloseTo(strength, 4);
  }
});

// A plane as it looks after a similarity about its centre: bilinear, edges repeated.
function warped({ width, height, data }: Plane, { zoom, x, y }: Similarity): Plane {
  const at = (index: number, length: number, shift: number) => {
    const position = (index - (length - 1) / 2 - shift) / zoom + (length - 1) / 2;
    const clamp = (place: number) => Math.min(Math.max(place, 0), length - 1);
    const before = Math.floor(position);
    return [clamp(before), clamp(before + 1), Math.fround(position - before)] as const;
  };
  const moved = new Float32Array(data.length);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [[upper, lower, down], [left, right, share]] = [at(row, height, y), at(column, width, x)];
      const across = (line: number) => {
        const [a, b] = [data[line * width + left]!, data[line * width + right]!];
        return a + (b - a) * share;
      };
      const above = across(upper);
      moved[row * width + column] = above + (across(lower) - above) * down;
    }
  return { width, height, data: moved };
}

// Normalised correlation of a block with one place of another plane, sums row by row.
function correlation(a: Plane, b: Plane, block: Box, [dx, dy]: readonly [number, number]): number {
  let [product, sumA, sumB, squareA, squareB] = [0, 0, 0, 0, 0];
  for (let y = block.y; y < block.y + block.height; y++)
    for (let x = block.x; x < block.x + block.width; x++) {
      const one = a.data[y * a.width + x]!;
      const other = b.data[(y + dy) * b.width + x + dx]!;
      product += one * other;
      sumA += one;
      sumB += other;
      squareA += one * one;
      squareB += other * other;
    }
  const count = block.width * block.height;
  const spread = (squareA - sumA ** 2 / count) * (squareB - sumB ** 2 / count);
  return (product - (sumA * sumB) / count) / Math.sqrt(spread);
}

test.each([
  [{ zoom: 1, x: 0, y: 0 }, 3],
  [{ zoom: 1.02, x: 1.3, y: -0.7 }, 2],
  [{ zoom: 0.9, x: -4, y: 3.5 }, 1],
  [{ zoom: 1.1, x: 0, y: 0 }, 12],
] as const)("blocks after %o, up to %i pixels beside", (similarity, reach) => {
  const matcher = new BlockMatcher({ width: 80, height: 60 }, 12);
  // Of other sizes first, so that what lies in the memory already counts for nothing.
  for (const [width, height] of [
    [80, 60],
    [41, 33],
    [80, 60],
  ] as const) {
    const [template, original] = [plane(width, height, 1), plane(width, height, 2)];
    const moved = warped(original, similarity);
    matcher.aim(template, original, similarity);
    for (const block of [
      { x: reach, y: reach, width: 8, height: 6 },
      { x: width - reach - 9, y: height - reach - 7, width: 9, height: 7 },
    ]) {
      const offsets = Array.from({ length: 2 * reach + 1 }, (_, offset) => offset - reach);
      const wanted = offsets.flatMap((dy) => offsets.map((dx) => correlation(template, moved, block, [dx, dy])));
      const found = matcher.correlations(block, reach);
      expect(found).toHaveLength(wanted.length);
      // Sums of what is searched are differences of running sums, which differ in their last digits.
      for (const [at, score] of found.entries()) expect(score).toBeCloseTo(wanted[at]!, 9);
    }
  }
});

test.each([
  [{ x: 0, y: 0, width: 97, height: 61 }, 40, 25],
  [{ x: 5, y: 7, width: 90, height: 50 }, 9, 5],
  [{ x: 0, y: 3, width: 97, height: 58 }, 97, 58],
  [{ x: 0, y: 0, width: 97, height: 61 }, 96, 1],
  [{ x: 0, y: 0, width: 97, height: 61 }, 1, 2],
] as const)("the luma of %o as %i x %i is the mean over each area", (box, width, height) => {
  const next = random(5);
  const bytes = Uint8Array.from({ length: 97 * 61 * 3 }, () => next() * 256);
  const floats = Float32Array.from(bytes, (byte) => byte / 255);
  const luma = (x: number, y: number) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, channel) => sum + weight * bytes[(y * 97 + x) * 3 + channel]!, 0);
  // What of each input falls into an output.
  const shares = (output: number, outputs: number, inputs: number) =>
    Array.from({ length: inputs }, (_, input) =>
      Math.max(
        Math.min(((output + 1) * inputs) / outputs, input + 1) - Math.max((output * inputs) / outputs, input),
        0,
      ),
    );
  for (const data of [bytes, floats]) {
    const reduced = reducedLuma({ width: 97, height: 61, data } as Parameters<typeof reducedLuma>[0], box, {
      width,
      height,
    });
    for (let y = 0; y < height; y++) {
      const down = shares(y, height, box.height);
      for (let x = 0; x < width; x += 7) {
        const across = shares(x, width, box.width);
        let [sum, area] = [0, 0];
        down.forEach((tall, row) =>
          across.forEach((wide, column) => {
            if (tall * wide === 0) return;
            sum += tall * wide * luma(box.x + column, box.y + row);
            area += tall * wide;
          }),
        );
        expect(reduced.data[y * width + x]).toBeCloseTo(sum / area, 3);
      }
    }
  }
});

test("more rows than 16 bits hold the sums of are added in parts", () => {
  const data = new Uint8Array(2 * 700 * 3).fill(255);
  const { data: luma } = reducedLuma(
    { width: 2, height: 700, data },
    { x: 0, y: 0, width: 2, height: 700 },
    { width: 1, height: 1 },
  );
  expect(luma[0]).toBeCloseTo(255, 3);
});
