// Stored weights of all forms as factors of products, and as numbers.
import { rotation } from "../checkpoint/rotation.js";
import type { ScaleValue, Weights } from "../checkpoint/weights.js";
import { lookedUp } from "../graph/float8.js";
import { gemm } from "../graph/operators.js";
import { type DType, multiplyDims } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { packedGemm, packedMatrix, packedNumbers } from "./packed-linear.js";

/** `x · weightᵀ + bias` of the module at this path. */
export function multipliedWithBias(x: Value, w: Weights): Value {
  return multiplied(x, w, w.has("bias") ? w.get("bias").cast(x.dtype) : undefined);
}

/** `x · weightᵀ`, plus a bias if one is given. */
export function multiplied(input: Value, w: Weights, bias?: Value): Value {
  const group = w.rotated();
  const x = group === undefined ? input : rotatedGroups(input, group);
  const packed = w.packed();
  if (packed) return bias ? packedGemm(x, packed).add(bias) : packedGemm(x, packed);
  const scale = w.scale();
  if (scale === undefined || scale.grid.per === "block") return gemm(x, scaledWeight(w, x.dtype), bias);
  return scaledGemm(x, storedNumbers(w, x.dtype), { scale, bias });
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

/** The matrix at this path as f32 [out, in], from any form. */
export function matrixAt(w: Weights): Value {
  const [packed, group] = [w.packed(), w.rotated()];
  const stored = packed ? packedMatrix({ ...packed, codes: packed.codes("rows") }) : scaledWeight(w, "f32");
  return group === undefined ? stored : rotatedGroups(stored, group);
}

/** The weight at this path times its scale, if it has one, as numbers of `dtype`. */
export function weightAt(w: Weights, dtype: DType): Value {
  if (w.rotated() !== undefined) throw new Error(`internal: "${w.path}" is rotated, and multiplied by only`);
  const packed = w.packed();
  return packed ? packedNumbers(packed, dtype) : scaledWeight(w, dtype);
}

/** A part of the weight at this path as numbers of `dtype`: cut before it is widened where an operator takes the stored type, so that less is widened. */
export function partAt(w: Weights, dtype: DType, cut: (weight: Value) => Value): Value {
  const isPlain = w.packed() === undefined && w.scale() === undefined;
  const stored = isPlain ? w.get("weight") : undefined;
  return stored && CUT.includes(stored.dtype) ? cut(stored).cast(dtype) : cut(weightAt(w, dtype));
}

/** Types that Slice takes on the CPU, where it is folded. */
const CUT: readonly DType[] = ["f32", "f16", "bf16"];

function scaledWeight(w: Weights, dtype: DType): Value {
  const scale = w.scale();
  if (scale === undefined) return storedNumbers(w, dtype);
  const shape = w.shape("weight");
  const rows = shape[0] ?? 1;
  const columns = shape.slice(1).reduce((product, dim) => product * dim, 1);
  const matrix = storedNumbers(w, "f32").reshape([rows, columns]);
  return matrix
    .mul(spread(scale, rows, columns))
    .reshape(shape)
    .cast(dtype);
}

// The weight as the file has it, without its scale.
function storedNumbers(w: Weights, dtype: DType): Value {
  const float8 = dtype === "f32" && w.widening === "look-up" ? w.float8("weight") : undefined;
  return float8 ? lookedUp(float8) : w.get("weight").cast(dtype);
}

// A scale in a shape that broadcasts over its weight as a matrix.
function spread({ value, grid }: ScaleValue, rows: number, columns: number): Value {
  if (grid.per === "tensor") return value.reshape([1]);
  if (grid.per === "row") return value.reshape([rows, 1]);
  const blocks = value.reshape([Math.ceil(rows / grid.rows), Math.ceil(columns / grid.columns)]);
  return blocks.spread(1, grid.columns, columns).spread(0, grid.rows, rows);
}
