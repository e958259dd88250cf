// What sequence.ts computes of tensors, inside a graph: where packed references, text and the target stand, and what text sees.
import {
  counted,
  cumulativeSum,
  divided,
  gather,
  range,
  squeeze,
  sumOver,
  unsqueeze,
  where,
} from "../../graph/indexing.js";
import { multiplyDims } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import {
  type LatentGrid,
  type PackedReferences,
  packedPlaces,
  referenceTokens,
  ropeOfPositions,
  type TokenPositions,
} from "../graph-tokens.js";
import type { Rope } from "./block-causal-blocks.js";
import type { TransformerConfig } from "./block-causal-config.js";

/** A token is a cell of the latent. */
export const PATCH = { patchSize: 1 };

/** What stands in the sequence, see Sequence. */
export interface PackedSequence {
  /** Text tokens: how many, i64 [1], and the name of that. */
  readonly text: { readonly count: Value; readonly name: string };
  readonly references: PackedReferences;
  /** How many text tokens stand before each reference, i64 [references], rising. */
  readonly imagePositions: Value;
  readonly target: LatentGrid;
}

/** The rotary tables f32 of the prefix and of the target, see ropeTables. */
export function packedRopes(
  { text, references, imagePositions, target }: PackedSequence,
  config: TransformerConfig,
): { readonly prefix: Rope; readonly target: Rope } {
  const { rows, columns } = referenceTokens(references.sizes, PATCH);
  const sides = rows.max(columns);
  const word = range(text.count, text.name);
  const isBehind = counted(unsqueeze(word, 1).atLeast(unsqueeze(imagePositions, 0)));
  const place = word.add(squeeze(sumOver(isBehind.mul(unsqueeze(sides, 0)), 1), 1));
  const frames = imagePositions.add(cumulativeSum(sides).sub(sides));
  const { row, column, of } = packedPlaces(references, PATCH);
  const images: TokenPositions = [of(frames), row.add(of(firstOf(rows))), column.add(of(firstOf(columns)))];
  const last = text.count.add(sides.sum().reshape([1]));
  return {
    prefix: ropeOfPositions([[place, place, place], images], config),
    target: ropeOfPositions([gridPositions(target, last)], config),
  };
}

function gridPositions({ rows, columns, names }: LatentGrid, frame: Value): TokenPositions {
  const place = range(rows.mul(columns), multiplyDims(names.rows, names.columns));
  const { quotient, remainder } = divided(place, columns);
  return [place.mul(0).add(frame), quotient.add(firstOf(rows)), remainder.add(firstOf(columns))];
}

// The first place of a side that is centred around 0.
function firstOf(side: Value): Value {
  return side.div(2).sub(side);
}

/** What is added to the scores of text tokens, f32 [1, 1, text, prefix], see textMask. */
export function packedTextMask({ text, references, imagePositions }: Omit<PackedSequence, "target">): Value {
  const word = range(text.count, text.name);
  const { of } = packedPlaces(references, PATCH);
  const isWordSeen = unsqueeze(word, 1).atLeast(unsqueeze(word, 0));
  const isReferenceSeen = unsqueeze(word, 1).atLeast(unsqueeze(of(imagePositions), 0));
  const limit = (number: number) => word.graph.constant("f32", [], [number]);
  const masks = [isWordSeen, isReferenceSeen].map((isSeen) => where(isSeen, limit(0), limit(Number.NEGATIVE_INFINITY)));
  return unsqueeze(unsqueeze(concat(masks, 1), 0), 0);
}

/** How many of some places of references break what Sequence says of them, i64 [1]: they rise, among so many text tokens, i64 [1]. */
export function misplacedReferences(imagePositions: Value, text: Value): Value {
  const number = range(imagePositions.shapeValue(), imagePositions.dim(0));
  const isLater = counted(unsqueeze(number, 1).atLeast(unsqueeze(number, 0)));
  const isBehind = counted(unsqueeze(imagePositions, 1).atLeast(unsqueeze(imagePositions, 0)));
  const total = (list: Value) => list.sum().reshape([1]);
  const falling = isLater.mul(isBehind.mul(-1).add(1));
  const inside = counted(imagePositions.atLeast(0)).mul(counted(imagePositions.mul(-1).add(text).atLeast(0)));
  return total(falling).add(total(inside.mul(-1).add(1)));
}

/** A value for each reference in its order, i64 [references]: where it ends among the tokens of all, and how many it has. */
export function packedCounts({ sizes }: PackedReferences): { readonly counts: Value; readonly ends: Value } {
  const { counts } = referenceTokens(sizes, PATCH);
  return { counts, ends: cumulativeSum(counts) };
}

/** Sides that are odd, i64 [1], of sizes i64 [n, 2]. A grid with an odd side would not be centred as one with an even side is: by half a token. */
export function oddSides(sizes: Value): Value {
  const columns = [0, 1].map((axis) => squeeze(gather(sizes, sizes.graph.constant("i64", [1], [axis]), 1), 1));
  return columns.map((side) => divided(side, 2).remainder.sum().reshape([1])).reduce((sum, each) => sum.add(each));
}
