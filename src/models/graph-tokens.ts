// Latents as tokens, and the rotary angles of tokens, inside a graph: their numbers are known when it runs. What families have in common.
import {
  counted,
  cumulativeSum,
  divided,
  gather,
  range,
  reshapeTo,
  squeeze,
  sumOver,
  unsqueeze,
} from "../graph/indexing.js";
import { cosineAndSine } from "../graph/trigonometry.js";
import { multiplyDims } from "../graph/types.js";
import { concat, type Value } from "../graph/value.js";
import { ROPE_THETA } from "./axis-rotations.js";

/** Latent cells along one side of a token. */
interface Patched {
  readonly patchSize: number;
}

/** The grid of a latent's tokens, at run time. */
export interface LatentGrid {
  /** i64 [1] */
  readonly rows: Value;
  readonly columns: Value;
  /** Names of these lengths. */
  readonly names: { readonly rows: string; readonly columns: string };
  /** Cells along the padded sides: those of the latent, and where a side is odd the first one again. */
  readonly cells: { readonly rows: Value; readonly columns: Value };
}

/** The grid of a latent [1, channels, h, w]; `rows` and `columns` name its lengths. */
export function gridOfLatent(latent: Value, names: LatentGrid["names"], { patchSize }: Patched): LatentGrid {
  const side = (axis: number, name: string) => {
    const length = latent.shapeValue(axis, axis + 1);
    const tokens = tokensAlong(length, patchSize);
    const { remainder } = divided(range(tokens.mul(patchSize), multiplyDims(patchSize, name)), length);
    return { tokens, cells: remainder };
  };
  const [down, across] = [side(2, names.rows), side(3, names.columns)];
  return {
    rows: down.tokens,
    columns: across.tokens,
    names,
    cells: { rows: down.cells, columns: across.cells },
  };
}

/** A latent [1, channels, h, w] as tokens [1, rows·columns, channels·patch²], as patchify gives them. */
export function latentTokens(latent: Value, { names, cells }: LatentGrid, { patchSize }: Patched): Value {
  const channels = Number(latent.dim(1));
  const padded = gather(gather(latent, cells.rows, 2), cells.columns, 3);
  return padded
    .reshape([channels, names.rows, patchSize, padded.dim(3)])
    .transpose([1, 0, 2, 3])
    .reshape([names.rows, channels * patchSize, names.columns, patchSize])
    .transpose([0, 2, 1, 3])
    .reshape([1, multiplyDims(names.rows, names.columns), channels * patchSize ** 2]);
}

/** The inverse of latentTokens, for a latent of the size of `like`. */
export function latentOfTokens(
  tokens: Value,
  { rows, columns, names }: LatentGrid,
  { like, config: { patchSize } }: { like: Value; config: Patched },
): Value {
  const channels = Number(like.dim(1));
  const shape = [names.rows, names.columns, channels * patchSize, patchSize];
  const width = multiplyDims(patchSize, names.columns);
  const cells = reshapeTo(tokens, shape, { [names.rows]: rows, [names.columns]: columns })
    .transpose([0, 2, 1, 3])
    .reshape([names.rows, channels, patchSize, width])
    .transpose([1, 0, 2, 3])
    .reshape([1, channels, multiplyDims(patchSize, names.rows), width]);
  return cells.firstLike(2, like, 2).firstLike(3, like, 3);
}

/** Time, row and column of tokens, each i64 [tokens]. */
export type TokenPositions = readonly [frame: Value, row: Value, column: Value];

/** References that were packed one after the other. */
export interface PackedReferences {
  /** Tokens of all, i64 [1]. */
  readonly count: Value;
  /** Their name. */
  readonly name: string;
  /** Height and width of each in cells of its latent, i64 [references, 2]. */
  readonly sizes: Value;
}

/** How many tokens each of some references has, i64 [references], of sizes in cells [references, 2]. */
export function referenceTokens(sizes: Value, { patchSize }: Patched): { rows: Value; columns: Value; counts: Value } {
  const along = (axis: number) => tokensAlong(columnOf(sizes, axis), patchSize);
  const [rows, columns] = [along(0), along(1)];
  return { rows, columns, counts: rows.mul(columns) };
}

/** Where the tokens of packed references stand, i64 [tokens]: in which reference, and in which of its rows and columns. */
export interface PackedPlaces {
  readonly which: Value;
  readonly row: Value;
  readonly column: Value;
  /** A number of each reference, i64 [references], for each of its tokens. */
  readonly of: (list: Value) => Value;
}

/** Where the tokens of packed references stand. */
export function packedPlaces({ count, name, sizes }: PackedReferences, patched: Patched): PackedPlaces {
  const { columns, counts } = referenceTokens(sizes, patched);
  const ends = cumulativeSum(counts);
  const place = range(count, name);
  const isBehind = counted(unsqueeze(place, 1).atLeast(unsqueeze(ends, 0)));
  const which = squeeze(sumOver(isBehind, 1), 1);
  const of = (list: Value) => gather(list, which);
  const { quotient: row, remainder: column } = divided(place.sub(of(ends.sub(counts))), of(columns));
  return { which, row, column, of };
}

/** Cosines and sines f32 [1, tokens, head/2] of tokens in order; angles in float64. */
export function ropeOfPositions(
  parts: readonly TokenPositions[],
  { ropeAxes }: { readonly ropeAxes: readonly number[] },
): { cos: Value; sin: Value } {
  const angles = ropeAxes.map((dim, axis) => {
    const positions = concat(
      parts.map((part) => part[axis]!),
      0,
    );
    const frequencies = Array.from({ length: dim / 2 }, (_, k) => ROPE_THETA ** ((-2 * k) / dim));
    return anglesOf(positions, frequencies);
  });
  return rotations(angles);
}

/** Angles f64 [tokens, frequencies] of positions i64 [tokens]. */
export function anglesOf(positions: Value, frequencies: readonly number[]): Value {
  const row = positions.graph.constant("f64", [1, frequencies.length], frequencies);
  return unsqueeze(positions, 1).cast("f64").mul(row);
}

/** Cosines and sines f32 [1, tokens, pairs] of angles f64 [tokens, …] side by side. */
export function rotations(angles: readonly Value[]): { cos: Value; sin: Value } {
  const { cos, sin } = cosineAndSine(concat(angles, 1));
  return { cos: unsqueeze(cos.cast("f32"), 0), sin: unsqueeze(sin.cast("f32"), 0) };
}

function tokensAlong(cells: Value, patchSize: number): Value {
  return cells.add(patchSize - 1).div(patchSize);
}

/** A column of a table [rows, columns], [rows]. */
export function columnOf(table: Value, axis: number): Value {
  return squeeze(gather(table, table.graph.constant("i64", [1], [axis]), 1), 1);
}
