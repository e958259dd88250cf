// What the adapters of each kind add to a weight: as products with x where that is less than the matrix itself, and as the matrix.
// Formulas: ComfyUI comfy/weight_adapter/{lora,loha,lokr}.py; LyCORIS 4.1 lycoris/functional; PEFT 0.21 tuners/{lora,loha,lokr}.
import { type DifferenceKind, isRotationKind } from "../checkpoint/lora/module-adapter.js";
import type { AdapterValues } from "../checkpoint/weights.js";
import { gemm } from "../graph/operators.js";
import type { DType } from "../graph/types.js";
import type { Value } from "../graph/value.js";

/** An adapter that adds to the weight of its module. */
export type WeightAdapter = AdapterValues & { readonly kind: DifferenceKind };

/** Whether an adapter adds to the weight of its module, not to its bias alone. */
export function changesWeight(adapter: AdapterValues): adapter is WeightAdapter {
  return adapter.kind !== undefined && !isRotationKind(adapter.kind);
}

type Parts = Required<AdapterValues["parts"]>;

interface Difference {
  /** `x · Δᵀ`, [tokens, out] in the type of x. */
  readonly product: (x: Value, parts: Parts) => Value;
  /** Δ [out, in] */
  readonly matrix: (parts: Parts, dtype: DType) => Value;
}

const DIFFERENCES: Readonly<Record<DifferenceKind, Difference>> = {
  lora: {
    product: (x, { up, down }) => gemm(gemm(x, down.cast(x.dtype)), up.cast(x.dtype)),
    matrix: ({ up, down }, dtype) => up.cast(dtype).matmul(down.cast(dtype)),
  },
  loha: {
    product: hadamardProduct,
    matrix({ hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b }, dtype) {
      const first = hada_w1_a.cast(dtype).matmul(hada_w1_b.cast(dtype));
      return first.mul(hada_w2_a.cast(dtype).matmul(hada_w2_b.cast(dtype)));
    },
  },
  lokr: { product: kroneckerProduct, matrix: kroneckerMatrix },
  full: {
    product: (x, { diff }) => gemm(x, diff.cast(x.dtype)),
    matrix: ({ diff }, dtype) => diff.cast(dtype),
  },
};

/** `x · Δᵀ` for the difference Δ of an adapter, without its scale and strength: [tokens, out] in the type of x. */
export function differenceProduct(x: Value, { kind, parts }: WeightAdapter): Value {
  return DIFFERENCES[kind].product(x, parts as Parts);
}

/** The difference Δ [out, in] of an adapter, without its scale and strength. */
export function differenceMatrix({ kind, parts }: WeightAdapter, dtype: DType): Value {
  return DIFFERENCES[kind].matrix(parts as Parts, dtype);
}

// Two products of ranks a and b, multiplied element by element, are one of rank a · b: of all products of a column with a column, and of a row with
// a row. Where that is more work than with the matrix itself, which has to be made first, it is that.
function hadamardProduct(x: Value, parts: Parts): Value {
  const of = (name: keyof Parts) => parts[name].cast(x.dtype);
  const [firstUp, firstDown, secondUp, secondDown] = (
    ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"] as const
  ).map(of) as [Value, Value, Value, Value];
  const [out, input] = [Number(firstUp.dim(0)), Number(firstDown.dim(1))];
  const [first, second] = [Number(firstDown.dim(0)), Number(secondDown.dim(0))];
  const rank = first * second;
  if (rank * (out + input) > out * input) return gemm(x, DIFFERENCES.loha.matrix(parts, x.dtype));
  const down = firstDown.reshape([first, 1, input]).mul(secondDown.reshape([1, second, input]));
  const up = firstUp.reshape([out, first, 1]).mul(secondUp.reshape([out, 1, second]));
  return gemm(gemm(x, down.reshape([rank, input])), up.reshape([out, rank]));
}

// With x as [columns of w1, columns of w2] for each token: w1 · x · w2ᵀ, first with what makes it smaller.
function kroneckerProduct(x: Value, parts: Parts): Value {
  const first = kroneckerFactor(parts, "lokr_w1", x.dtype);
  const [rows, columns] = [Number(first.dim(0)), Number(first.dim(1))];
  const grouped = x.reshape([x.dim(0), columns, Number(x.dim(1)) / columns]);
  const factors = parts.lokr_w2 ? [parts.lokr_w2] : [parts.lokr_w2_b, parts.lokr_w2_a];
  const bySecond = (value: Value) =>
    factors.reduce((product, factor) => product.matmul(factor.cast(x.dtype).transpose([1, 0])), value);
  const product = rows > columns ? first.matmul(bySecond(grouped)) : bySecond(first.matmul(grouped));
  return product.reshape([x.dim(0), rows * Number(product.dim(2))]);
}

function kroneckerMatrix(parts: Parts, dtype: DType): Value {
  const [first, second] = [kroneckerFactor(parts, "lokr_w1", dtype), kroneckerFactor(parts, "lokr_w2", dtype)];
  const [a, b, c, d] = [...first.shape, ...second.shape].map(Number) as [number, number, number, number];
  return first
    .reshape([a, 1, b, 1])
    .mul(second.reshape([1, c, 1, d]))
    .reshape([a * c, b * d]);
}

// A factor that is whole, or the product of two.
function kroneckerFactor(parts: Parts, name: "lokr_w1" | "lokr_w2", dtype: DType): Value {
  const whole: Value | undefined = parts[name];
  return whole ? whole.cast(dtype) : parts[`${name}_a`].cast(dtype).matmul(parts[`${name}_b`].cast(dtype));
}
