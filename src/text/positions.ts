// M-RoPE positions of a prompt with pictures: text counts up in all three rows, a picture's tokens share a time and spread over rows and columns.
// https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py (get_rope_index)
import type { ImageSpan } from "./prompt.js";

/** A picture in the expanded sequence with its patch grid [frames = 1, rows, columns]. */
export interface PlacedImage extends ImageSpan {
  readonly grid: readonly [number, number, number];
}

/** A sequence of `length` tokens and the pictures in it; `merge` is the side of a token in patches (published: 2). */
export interface SequenceLayout {
  readonly length: number;
  readonly images: readonly PlacedImage[];
  readonly merge?: number;
}

/** Time, row and column of every token: three rows of length numbers. Throws when a picture's count does not fit its grid. */
export function positionIds({ length, images, merge = 2 }: SequenceLayout): [number[], number[], number[]] {
  const time: number[] = [];
  const row: number[] = [];
  const column: number[] = [];
  let next = 0;
  const textUpTo = (end: number) => {
    while (time.length < end) {
      time.push(next);
      row.push(next);
      column.push(next++);
    }
  };
  for (const { start, count, grid } of images) {
    textUpTo(start);
    const [rows, columns] = [grid[1] / merge, grid[2] / merge];
    if (grid[0] !== 1 || rows * columns !== count)
      throw new Error(`internal: ${count} image tokens for a grid of ${grid.join(" x ")} patches`);
    for (let i = 0; i < count; i++) {
      time.push(next);
      row.push(next + Math.floor(i / columns));
      column.push(next + (i % columns));
    }
    // The picture took as many positions as its longer side has tokens.
    next += Math.max(rows, columns);
  }
  textUpTo(length);
  return [time, row, column];
}
