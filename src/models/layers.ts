// Layers that every network here is made of. Rows are tokens: x is [tokens, width].
import type { Weights } from "../checkpoint/weights.js";
import { rmsNorm } from "../graph/operators.js";
import { type DType, sameShape } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { addLoras } from "./add-loras.js";
import { weightAt } from "./stored-weight.js";

/** `x · weightᵀ + bias`, plus the active LoRAs of this module: x [tokens, in] gives [tokens, out] in the type of x; weights are cast to it. */
export function linear(x: Value, w: Weights): Value {
  return linears(x, [w])[0]!;
}

/** What `linear` gives with each of several modules that read one x, whose LoRAs then share a product. */
export function linears(x: Value, modules: readonly Weights[]): Value[] {
  return addLoras(
    x,
    modules.map((w) => ({ w, adapters: w.adapters() })),
  );
}

/** RMSNorm of each head: x [tokens, heads·d] with a weight [d] gives [tokens, heads·d]. */
export function headNorm(x: Value, w: Weights, { heads, epsilon }: { heads: number; epsilon: number }): Value {
  return w.scoped(() => {
    const weight = normWeight(w, x.dtype);
    const perHead = x.reshape([x.dim(0), heads, weight.dim(0)]);
    return rmsNorm(perHead, weight, epsilon).reshape(x.shape);
  });
}

/** RMSNorm of x [tokens, width] with the weight at this path. */
export function rmsNormAt(x: Value, w: Weights, epsilon: number): Value {
  return w.scoped(() => rmsNorm(x, normWeight(w, x.dtype), epsilon));
}

/** RMSNorm of x [tokens, width] by 1 + the weight at this path: weights that are stored around zero. */
export function centredRmsNormAt(x: Value, w: Weights, epsilon: number): Value {
  return w.scoped(() => rmsNorm(x, normWeight(w, "f32").add(1).cast(x.dtype), epsilon));
}

// The weight [width] of a norm with the differences of active adapters, which are added in float32.
function normWeight(w: Weights, dtype: DType): Value {
  const adapters = w.adapters();
  if (adapters.length === 0) return weightAt(w, dtype);
  const sum = adapters.reduce(
    (weight, { parts, strength }) => weight.add(parts.diff!.cast("f32").mul(strength)),
    weightAt(w, "f32"),
  );
  return sum.cast(dtype);
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
