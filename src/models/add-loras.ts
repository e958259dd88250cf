// LoRAs as a side path, `y + strength · alpha/rank · up(down(x))`, never merged into the weights: 8 bits would round it away.
import type { AdapterValues, Weights } from "../checkpoint/weights.js";
import { gemm } from "../graph/operators.js";
import type { DType } from "../graph/types.js";
import { concat, type Value } from "../graph/value.js";

/** A linear layer that reads the same x as others: its place, its output y [tokens, out] without LoRAs, and its LoRA pairs. */
export interface Layer {
  readonly w: Weights;
  readonly y: Value;
  readonly adapters: readonly AdapterValues[];
}

/**
 * The output of each layer with its LoRAs added. All pairs of all layers are stacked along the rank: one product down reads x once for
 * all layers, and one product up for each layer adds to y.
 */
export function addLoras(x: Value, layers: readonly Layer[]): Value[] {
  const adapted = layers.filter(({ adapters }) => adapters.length > 0);
  if (adapted.length === 0) return layers.map(({ y }) => y);
  const all = adapted.flatMap(({ adapters }) => adapters);
  const parts = adapted[0]!.w.scoped(() => {
    const downs = all.map(({ down }) => down);
    const inner = gemm(x, stacked(downs, 0, x.dtype)).mul(scalesOf(all, x.dtype));
    const ranks = adapted.map(({ adapters }) => adapters.reduce((sum, each) => sum + rankOf(each), 0));
    return inner.cut(ranks, 1);
  });
  return layers.map((layer) => {
    const part = parts[adapted.indexOf(layer)];
    if (part === undefined) return layer.y;
    const ups = layer.adapters.map(({ up }) => up);
    return layer.w.scoped(() => gemm(part, stacked(ups, 1, x.dtype), layer.y));
  });
}

function stacked(factors: readonly Value[], axis: number, dtype: DType): Value {
  const [first, ...others] = factors as [Value, ...Value[]];
  if (others.length === 0) return first.cast(dtype);
  // 8-bit floats cannot be joined.
  const isJoinable = others.every((each) => each.dtype === first.dtype) && !first.dtype.startsWith("f8");
  return concat(isJoinable ? factors : factors.map((each) => each.cast(dtype)), axis).cast(dtype);
}

// strength · alpha/rank of every row of the stacked factors, [ranks]; the same for most layers of a graph.
function scalesOf(adapters: readonly AdapterValues[], dtype: DType): Value {
  const { graph } = adapters[0]!.strength;
  const key = adapters.map((each) => `${each.strength.name}*${each.scale}[${rankOf(each)}]`).join();
  return graph.once(`LoRA scales ${key} ${dtype}`, () => {
    const scales = adapters.map((each) =>
      graph.constant("f32", [rankOf(each)], new Array<number>(rankOf(each)).fill(each.scale)).mul(each.strength),
    );
    return (scales.length === 1 ? scales[0]! : concat(scales, 0)).cast(dtype);
  });
}

function rankOf({ down }: AdapterValues): number {
  return Number(down.dim(0));
}
