// The sequence of Qwen-Image-2.1: where text, references and target stand, and what each sees. Latents as tokens: one for each cell.
// diffusers 0.42.1 transformer_qwenimage21.py, QwenImage21Rope and build_qwenimage21_block_causal_mask; ComfyUI drops the image tokens of the text
// encoder and splices the references in, as here.
import { float32, type Tensor, tensor } from "../../std/tensor.js";
import { axisRotations, type RopeTables } from "../axis-rotations.js";
import type { TransformerConfig } from "./block-causal-config.js";

/** A grid of tokens. */
interface Grid {
  readonly rows: number;
  readonly columns: number;
}

/** Frame, row and column of a token. */
type Position = readonly [frame: number, row: number, column: number];

/** A latent [1, channels, h, w] as tokens [1, h·w, channels]. */
export function latentTokens({ shape, data }: Tensor<"float32">): Tensor<"float32"> {
  const [, channels, height, width] = shape as [number, number, number, number];
  return float32([1, height * width, channels], transposed(data, channels, height * width));
}

/** The inverse of latentTokens, for a latent of `shape`. */
export function latentOfTokens({ data }: Tensor<"float32">, shape: readonly number[]): Tensor<"float32"> {
  const [, channels, height, width] = shape as [number, number, number, number];
  return float32(shape, transposed(data, height * width, channels));
}

function transposed(data: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(data.length);
  for (let row = 0; row < rows; row += 1)
    for (let column = 0; column < columns; column += 1) result[column * rows + row] = data[row * columns + column]!;
  return result;
}

/** What stands in the sequence: text tokens, the grids of references, how many text tokens stand before each of them, and the target's grid. */
export interface Sequence {
  readonly text: number;
  readonly references: readonly Grid[];
  readonly imagePositions: readonly number[];
  readonly target: Grid;
}

/** The rotary tables of the prefix, text first, then each reference, and of the target. Angles in float64. */
export function ropeTables(sequence: Sequence, config: TransformerConfig): { prefix: RopeTables; target: RopeTables } {
  const { text, images, target } = positionsOf(sequence);
  return { prefix: axisRotations([...text, ...images.flat()], config), target: axisRotations(target, config) };
}

// Text advances one position on all axes. An image keeps the frame that is reached and lies centred around rows and columns 0; after it the position
// has advanced by its longer side.
function positionsOf({ text: count, references, imagePositions, target }: Sequence) {
  const text: Position[] = [];
  let position = 0;
  const readTo = (end: number) => {
    for (; text.length < end; position += 1) text.push([position, position, position]);
  };
  const images = references.map((grid, index) => {
    readTo(imagePositions[index]!);
    const placed = gridPositions(grid, position);
    position += Math.max(grid.rows, grid.columns);
    return placed;
  });
  readTo(count);
  return { text, images, target: gridPositions(target, position) };
}

function gridPositions({ rows, columns }: Grid, frame: number): Position[] {
  const first = (side: number) => Math.floor(side / 2) - side;
  return Array.from({ length: rows * columns }, (_, index) => [
    frame,
    first(rows) + Math.floor(index / columns),
    first(columns) + (index % columns),
  ]);
}

/**
 * What is added to the scores of text tokens [1, 1, text, prefix], keys in the prefix's order: 0 where a token stands before or is the token itself,
 * else minus infinity.
 */
export function textMask({ text, references, imagePositions }: Omit<Sequence, "target">): Tensor<"float32"> {
  const counts = references.map(({ rows, columns }) => rows * columns);
  const prefix = counts.reduce((sum, each) => sum + each, text);
  const mask = float32([1, 1, text, prefix], new Float32Array(text * prefix).fill(Number.NEGATIVE_INFINITY));
  for (let query = 0; query < text; query += 1) {
    const row = mask.data.subarray(query * prefix, (query + 1) * prefix);
    row.fill(0, 0, query + 1);
    let at = text;
    counts.forEach((count, index) => {
      // A reference stands before the text token of its number.
      if (imagePositions[index]! <= query) row.fill(0, at, at + count);
      at += count;
    });
  }
  return mask;
}

/** The numbers of the text tokens before a reference, i64. */
export function textBefore(imagePosition: number): Tensor<"int64"> {
  return tensor(
    "int64",
    [imagePosition],
    BigInt64Array.from({ length: imagePosition }, (_, index) => BigInt(index)),
  );
}
