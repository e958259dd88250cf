// What tokens.ts computes of tensors, inside a graph: latents as tokens, and the rotary angles of tokens whose number is known when the graph runs.
import { loop } from "../../graph/control-flow.js";
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
  where,
} from "../../graph/indexing.js";
import { cosineAndSine } from "../../graph/trigonometry.js";
import { multiplyDims } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { ROPE_THETA } from "../axis-rotations.js";
import type { TransformerConfig } from "./transformer-config.js";

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
export function gridOfLatent(latent: Value, names: LatentGrid["names"], { patchSize }: TransformerConfig): LatentGrid {
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
export function latentTokens(latent: Value, { names, cells }: LatentGrid, { patchSize }: TransformerConfig): Value {
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
  { like, config: { patchSize } }: { like: Value; config: TransformerConfig },
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

/** Positions of the target's tokens. */
export function targetPositions({ rows, columns, names }: LatentGrid): TokenPositions {
  const place = range(rows.mul(columns), multiplyDims(names.rows, names.columns));
  const { quotient, remainder } = divided(place, columns);
  return [place.mul(0), quotient.sub(rows.div(2)), remainder.sub(columns.div(2))];
}

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
export function referenceTokens(
  sizes: Value,
  { patchSize }: TransformerConfig,
): { rows: Value; columns: Value; counts: Value } {
  const along = (axis: number) => tokensAlong(column(sizes, axis), patchSize);
  const [rows, columns] = [along(0), along(1)];
  return { rows, columns, counts: rows.mul(columns) };
}

/** Positions of the tokens of packed references, each in a frame of its own, or all in one as the configuration says. */
export function referencePositions(
  { count, name, sizes }: PackedReferences,
  config: TransformerConfig,
): TokenPositions {
  const { rows, columns, counts } = referenceTokens(sizes, config);
  const ends = cumulativeSum(counts);
  const place = range(count, name);
  const isBehind = counted(unsqueeze(place, 1).atLeast(unsqueeze(ends, 0)));
  const which = squeeze(sumOver(isBehind, 1), 1);
  const of = (list: Value) => gather(list, which);
  const { quotient, remainder } = divided(place.sub(of(ends.sub(counts))), of(columns));
  const centred = [quotient.sub(of(rows.div(2))), remainder.sub(of(columns.div(2)))] as const;
  if (!config.referencesInOneFrame) return [which.add(1), ...centred];
  const moved = placedSideBySide(sizes, config);
  return [place.mul(0).add(1), centred[0].add(of(column(moved, 0))), centred[1].add(of(column(moved, 1)))];
}

// How far each reference is moved down and right, in tokens, i64 [references, 2]; see sideBySide in tokens.ts.
function placedSideBySide(sizes: Value, { patchSize }: TransformerConfig): Value {
  const { graph } = sizes;
  const none = graph.constant("i64", [1], [0]);
  const carried = [
    { initial: none },
    { initial: none },
    { initial: graph.constant("i64", [0, 2], []), shape: ["placed", 2], result: [sizes.dim(0), 2] },
  ];
  const [, , moved] = loop(graph, { trips: sizes.shapeValue(0, 1), carried }, ([height, width, placed], index) => {
    const size = gather(sizes, index);
    const [rows, columns] = [0, 1].map((axis) => column(size, axis)) as [Value, Value];
    const isBeside = rows.add(height!).atLeast(columns.add(width!).add(1));
    const [down, right] = [where(isBeside, none, height!), where(isBeside, width!, none)];
    const inTokens = unsqueeze(concat([down, right], 0), 0)
      .add(Math.floor(patchSize / 2))
      .div(patchSize);
    return [height!.max(rows.add(down)), width!.max(columns.add(right)), concat([placed!, inTokens], 0)];
  });
  return moved!;
}

/** Positions of a prompt's tokens, i64 [1] of them: on along the diagonal from the edge of the target's grid. */
export function textPositions(count: Value, name: string, { rows, columns }: LatentGrid): TokenPositions {
  const place = range(count, name).add(rows.div(2).max(columns.div(2)));
  return [place, place, place];
}

/** Cosines and sines f32 [1, tokens, head/2] of tokens in order; angles in float64. */
export function ropeOfPositions(
  parts: readonly TokenPositions[],
  { ropeAxes }: TransformerConfig,
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

function column(table: Value, axis: number): Value {
  return squeeze(gather(table, table.graph.constant("i64", [1], [axis]), 1), 1);
}
