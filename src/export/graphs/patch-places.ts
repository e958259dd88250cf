// Where the patches of a picture lie, and their rotary tables, inside a graph: what the towers of both families have in common.
import { divided, range } from "../../graph/indexing.js";
import type { DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { anglesOf, rotations } from "../../models/graph-tokens.js";
import { VISION_ROPE_THETA } from "../../models/qwen2.5-vl/vision.js";
import type { VisionNumbers } from "../../models/text-encoder-family.js";
import type { OneGrid } from "./prompt-encoder.js";

/** Row and column of each patch, i64 [patches]. */
export interface PatchPositions {
  readonly row: Value;
  readonly column: Value;
}

/** Rows and columns of patches, which come in the order of merged tokens. */
export function patchPositions(
  { columns, count, length }: OneGrid,
  { mergeSize }: Pick<VisionNumbers, "mergeSize">,
): PatchPositions {
  const token = divided(range(count, length), mergeSize ** 2);
  const block = divided(token.quotient, columns.div(mergeSize));
  const inside = divided(token.remainder, mergeSize);
  return {
    row: block.quotient.mul(mergeSize).add(inside.quotient),
    column: block.remainder.mul(mergeSize).add(inside.remainder),
  };
}

/** Cosines and sines [1, patches, head/2] by row and column. */
export function patchRotations(
  { row, column }: PatchPositions,
  { width, heads }: VisionNumbers,
  compute: DType,
): { readonly cos: Value; readonly sin: Value } {
  const quarter = width / heads / 4;
  const frequencies = Array.from({ length: quarter }, (_, k) => VISION_ROPE_THETA ** (-k / quarter));
  const { cos, sin } = rotations([anglesOf(row, frequencies), anglesOf(column, frequencies)]);
  return { cos: cos.cast(compute), sin: sin.cast(compute) };
}
