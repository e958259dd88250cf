// Layers that every network here is made of. Rows are tokens: x is [tokens, width].
import { rotation } from "../checkpoint/rotation.js";
import type { ScaleValue, Weights } from "../checkpoint/weights.js";
import { gemm, rmsNorm } from "../graph/operators.js";
import { type DType, multiplyDims, sameShape } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { addLoras } from "./add-loras.js";
import { packedGemm, packedNumbers } from "./packed-linear.js";

/** `x · weightᵀ + bias`, plus the active LoRAs of this module: x [tokens, in] gives [tokens, out] in the type of x; weights are cast to it. */
export function linear(x: Value, w: Weights): Value {
  return linears(x, [w])[0]!;
}

/** What `linear` gives with each of several modules that read one x, whose LoRAs then share a product. */
export function linears(x: Value, modules: readonly Weights[]): Value[] {
  const layers = modules.map((w) => ({ w, y: w.scoped(() => withoutLoras(x, w)), adapters: w.adapters() }));
  return addLoras(x, layers);
}

function withoutLoras(input: Value, w: Weights): Value {
  const group = w.rotated();
  const x = group === undefined ? input : rotatedGroups(input, group);
  const bias = w.has("bias") ? w.get("bias").cast(x.dtype) : undefined;
  const packed = w.packed();
  if (packed) return bias ? packedGemm(x, packed).add(bias) : packedGemm(x, packed);
  const scale = w.scale();
  if (scale === undefined || scale.grid.per === "block") return gemm(x, storedWeight(w, x.dtype), bias);
  return scaledGemm(x, w.get("weight").cast(x.dtype), { scale, bias });
}

// A scalar scale moves to x, the smaller factor; one scale a row stays with the outputs. The product is taken in
// float32: the scale itself, rounded to bfloat16, would shift every output of the layer by the same part.
function scaledGemm(x: Value, weight: Value, { scale, bias }: { scale: ScaleValue; bias: Value | undefined }): Value {
  const { value, grid } = scale;
  if (grid.per === "tensor")
    return gemm(
      x
        .cast("f32")
        .mul(value.reshape([1]))
        .cast(x.dtype),
      weight,
      bias,
    );
  const rows = value.reshape([weight.dim(0)]);
  const y = gemm(x, weight).cast("f32").mul(rows).cast(x.dtype);
  return bias ? y.add(bias) : y;
}

/** x [tokens, width] with each group of its columns rotated, once for all layers that read it. */
export function rotatedGroups(x: Value, group: number): Value {
  const { graph } = x;
  return graph.once(`${x.name} rotated in groups of ${group}`, () => {
    const width = Number(x.dim(1));
    const matrix = graph.once(`rotation of ${group} ${x.dtype}`, () =>
      graph.constant("f32", [group, group], [...rotation(group)]).cast(x.dtype),
    );
    const rows = multiplyDims(x.dim(0), width / group);
    return gemm(x.reshape([rows, group]), matrix).reshape([x.dim(0), width]);
  });
}

/** The weight at this path times its scale, if it has one, as numbers of `dtype`. */
export function weightAt(w: Weights, dtype: DType): Value {
  if (w.rotated() !== undefined) throw new Error(`internal: "${w.path}" is rotated, and multiplied by only`);
  const packed = w.packed();
  return packed ? packedNumbers(packed, dtype) : storedWeight(w, dtype);
}

function storedWeight(w: Weights, dtype: DType): Value {
  const weight = w.get("weight");
  const scale = w.scale();
  if (scale === undefined) return weight.cast(dtype);
  const shape = weight.shape as readonly number[];
  const rows = shape[0] ?? 1;
  const columns = shape.slice(1).reduce((product, dim) => product * dim, 1);
  const matrix = weight.reshape([rows, columns]).cast("f32");
  return matrix
    .mul(spread(scale, rows, columns))
    .reshape(shape)
    .cast(dtype);
}

// A scale in a shape that broadcasts over its weight as a matrix.
function spread({ value, grid }: ScaleValue, rows: number, columns: number): Value {
  if (grid.per === "tensor") return value.reshape([1]);
  if (grid.per === "row") return value.reshape([rows, 1]);
  const blocks = value.reshape([Math.ceil(rows / grid.rows), Math.ceil(columns / grid.columns)]);
  return blocks.spread(1, grid.columns, columns).spread(0, grid.rows, rows);
}

/** RMSNorm of each head: x [tokens, heads·d] with a weight [d] gives [tokens, heads·d]. */
export function headNorm(x: Value, w: Weights, { heads, epsilon }: { heads: number; epsilon: number }): Value {
  return w.scoped(() => {
    const weight = weightAt(w, x.dtype);
    const perHead = x.reshape([x.dim(0), heads, weight.dim(0)]);
    return rmsNorm(perHead, weight, epsilon).reshape(x.shape);
  });
}

/** RMSNorm of x [tokens, width] with the weight at this path. */
export function rmsNormAt(x: Value, w: Weights, epsilon: number): Value {
  return w.scoped(() => rmsNorm(x, weightAt(w, x.dtype), epsilon));
}

/** [tokens, width] as the batch of one that attention operators take: [1, tokens, width]. */
export function batched(x: Value): Value {
  return x.reshape([1, ...x.shape]);
}

/** The one item of a batch: [1, tokens, width] as [tokens, width]. */
export function unbatched(x: Value): Value {
  if (!sameShape(x.shape.slice(0, 1), [1])) throw new Error(`internal: ${x.text()} is not a batch of one`);
  return x.reshape(x.shape.slice(1));
}
