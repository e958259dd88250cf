// Layers that every network here is made of. Rows are tokens: x is [tokens, width].
import type { AdapterValues, Weights } from "../checkpoint/weights.js";
import { fp8Gemm, gemm, rmsNorm } from "../graph/operators.js";
import { type DType, sameShape } from "../graph/types.js";
import { concat, type Value } from "../graph/value.js";

/** `x · weightᵀ + bias` in the type of x, whatever type the weight is stored in, plus the LoRAs on this module. */
export function linear(x: Value, w: Weights): Value {
  return linears(x, [w])[0]!;
}

/** What `linear` gives with each of several modules that read one x: so their LoRAs share a product. */
export function linears(x: Value, modules: readonly Weights[]): Value[] {
  const layers = modules.map((w) => ({ w, y: w.scoped(() => stored(x, w)), adapters: w.adapters() }));
  if (x.graph.forms.loras === "stacked") return withStacked(x, layers);
  return layers.map(({ w, y, adapters }) =>
    w.scoped(() => adapters.reduce((sum, adapter) => sum.add(lowRank(x, adapter)), y)),
  );
}

// The layer as its file has it.
function stored(x: Value, w: Weights): Value {
  const weight = w.get("weight");
  const bias = w.has("bias") ? w.get("bias").cast(x.dtype) : undefined;
  const scale = w.weightScale();
  const is16Bit = x.dtype === "bf16" || x.dtype === "f16";
  if (x.graph.forms.fp8 === "block-quantized" && is16Bit && weight.dtype === "f8_e4m3")
    return fp8Gemm(x, weight, { scales: rowScales(weight, scale), bias });
  return scale ? scaledGemm(x, weight.cast(x.dtype), { scale, bias }) : gemm(x, weight.cast(x.dtype), bias);
}

// One scale a row [out, 1], of a file that has one a row, one for all, or none.
function rowScales({ graph, shape }: Value, scale: Value | undefined): Value {
  const rows = Number(shape[0]);
  const ones = () =>
    graph.once(`ones ${rows}`, () => graph.constant("f32", [rows, 1], new Array<number>(rows).fill(1)));
  if (!scale) return ones();
  const isScalar = scale.shape.every((dim) => dim === 1);
  return isScalar ? ones().mul(scale.reshape([1, 1])) : scale.reshape([rows, 1]);
}

// A scalar scale moves to x, the smaller factor; one scale a row stays with the outputs. The product is taken in
// float32: the scale itself, rounded to bfloat16, would shift every output of the layer by the same part.
function scaledGemm(x: Value, weight: Value, { scale, bias }: { scale: Value; bias: Value | undefined }): Value {
  const isScalar = scale.shape.every((dim) => dim === 1);
  if (isScalar) return gemm(x.cast("f32").mul(scale).cast(x.dtype), weight, bias);
  const rows = scale.reshape([weight.dim(0)]);
  const y = gemm(x, weight).cast("f32").mul(rows).cast(x.dtype);
  return bias ? y.add(bias) : y;
}

// y += strength · alpha/rank · up(down(x)), scaled at the rank, where it is cheapest.
function lowRank(x: Value, { up, down, scale, strength }: AdapterValues): Value {
  const inner = gemm(x, down.cast(x.dtype)).mul(strength.mul(scale).cast(x.dtype));
  return gemm(inner, up.cast(x.dtype));
}

interface Layer {
  readonly w: Weights;
  readonly y: Value;
  readonly adapters: readonly AdapterValues[];
}

// The same sums with all factors of all layers side by side along the rank: x is read once, and each layer's sum is part of its product.
function withStacked(x: Value, layers: readonly Layer[]): Value[] {
  const riding = layers.filter(({ adapters }) => adapters.length > 0);
  if (riding.length === 0) return layers.map(({ y }) => y);
  const all = riding.flatMap(({ adapters }) => adapters);
  const parts = riding[0]!.w.scoped(() => {
    const inner = gemm(
      x,
      stacked(
        all.map(({ down }) => down),
        0,
        x.dtype,
      ),
    ).mul(scalesOf(all, x.dtype));
    return inner.cut(
      riding.map(({ adapters }) => adapters.reduce((sum, each) => sum + rankOf(each), 0)),
      1,
    );
  });
  return layers.map(({ w, y, adapters }, index) => {
    const part = parts[riding.indexOf(layers[index]!)];
    return part
      ? w.scoped(() =>
          gemm(
            part,
            stacked(
              adapters.map(({ up }) => up),
              1,
              x.dtype,
            ),
            y,
          ),
        )
      : y;
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

/** RMSNorm of each head: x [tokens, heads·d] with a weight [d] gives [tokens, heads·d]. */
export function headNorm(x: Value, w: Weights, { heads, epsilon }: { heads: number; epsilon: number }): Value {
  return w.scoped(() => {
    const weight = w.get("weight").cast(x.dtype);
    const perHead = x.reshape([x.dim(0), heads, weight.dim(0)]);
    return rmsNorm(perHead, weight, epsilon).reshape(x.shape);
  });
}

/** RMSNorm with the weight at this path. */
export function rmsNormAt(x: Value, w: Weights, epsilon: number): Value {
  return w.scoped(() => rmsNorm(x, w.get("weight").cast(x.dtype), epsilon));
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
