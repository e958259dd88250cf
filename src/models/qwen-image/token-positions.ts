// What tokens.ts computes of positions, inside a graph: where the target, references and the prompt of Qwen-Image-Edit stand.
import { loop } from "../../graph/control-flow.js";
import { divided, gather, range, unsqueeze, where } from "../../graph/indexing.js";
import { multiplyDims } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import {
  columnOf,
  type LatentGrid,
  type PackedReferences,
  packedPlaces,
  referenceTokens,
  type TokenPositions,
} from "../graph-tokens.js";
import type { TransformerConfig } from "./transformer-config.js";

/** Positions of the target's tokens. */
export function targetPositions({ rows, columns, names }: LatentGrid): TokenPositions {
  const place = range(rows.mul(columns), multiplyDims(names.rows, names.columns));
  const { quotient, remainder } = divided(place, columns);
  return [place.mul(0), quotient.sub(rows.div(2)), remainder.sub(columns.div(2))];
}

/** Positions of the tokens of packed references, each in a frame of its own, or all in one as the configuration says. */
export function referencePositions(packed: PackedReferences, config: TransformerConfig): TokenPositions {
  const { rows, columns } = referenceTokens(packed.sizes, config);
  const { which, row, column, of } = packedPlaces(packed, config);
  const centred = [row.sub(of(rows.div(2))), column.sub(of(columns.div(2)))] as const;
  if (!config.referencesInOneFrame) return [which.add(1), ...centred];
  const moved = placedSideBySide(packed.sizes, config);
  return [which.mul(0).add(1), centred[0].add(of(columnOf(moved, 0))), centred[1].add(of(columnOf(moved, 1)))];
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
    const [rows, columns] = [0, 1].map((axis) => columnOf(size, axis)) as [Value, Value];
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
