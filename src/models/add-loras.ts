// Adapters beside a weight, `y + strength · scale · Δ·x`, never merged into it: 8 bits would round the difference away.
import type { AdapterValues, Weights } from "../checkpoint/weights.js";
import { gemm } from "../graph/operators.js";
import type { DType } from "../graph/types.js";
import { concat, type Value } from "../graph/value.js";
import { isRotation, rotated } from "./rotations.js";
import { matrixAt, multiplied, multipliedWithBias } from "./stored-weight.js";
import { changesWeight, differenceMatrix, differenceProduct, type WeightAdapter } from "./weight-differences.js";

/** A linear layer that reads the same x as others, and what active adapters do to it. */
export interface Layer {
  readonly w: Weights;
  readonly adapters: readonly AdapterValues[];
}

/** What PyTorch adds to lengths that are divided by, in ComfyUI and LyCORIS: the distance from 1 to the next float32. */
const EPSILON = 2 ** -23;

/**
 * The output of each layer for x [tokens, in], with its adapters added. All plain LoRAs of all layers are stacked along the rank: one product
 * down reads x once for all layers, and one product up for each layer adds to its output. Every adapter changes the weights of the model, whatever others do.
 */
export function addLoras(x: Value, layers: readonly Layer[]): Value[] {
  const outputs = layers.map(({ w, adapters }) => w.scoped(() => withOtherAdapters(x, w, adapters)));
  const plain = layers.map(({ adapters }) => (adapters.some(isRotation) ? [] : adapters.filter(isPlain)));
  const all = plain.flat();
  if (all.length === 0) return outputs;
  const parts = layers[plain.findIndex((own) => own.length > 0)]!.w.scoped(() => {
    const downs = all.map(({ parts }) => parts.down!);
    const inner = gemm(x, stacked(downs, 0, x.dtype)).mul(scalesOf(all, x.dtype));
    const ranks = plain.filter((own) => own.length > 0).map((own) => own.reduce((sum, each) => sum + rankOf(each), 0));
    return inner.cut(ranks, 1);
  });
  const adapted = plain.filter((own) => own.length > 0);
  return layers.map(({ w }, index) => {
    const own = plain[index]!;
    const part = parts[adapted.indexOf(own)];
    if (part === undefined) return outputs[index]!;
    const ups = own.map(({ parts }) => parts.up!);
    return w.scoped(() => gemm(part, stacked(ups, 1, x.dtype), outputs[index]!));
  });
}

// A LoRA whose matrices are stacked with those of others; its bias is added apart.
function isPlain({ kind, parts }: AdapterValues): boolean {
  return kind === "lora" && parts.magnitude === undefined;
}

// The output of a layer with all that is no product of stacked matrices.
function withOtherAdapters(x: Value, w: Weights, adapters: readonly AdapterValues[]): Value {
  if (adapters.some(isRotation)) return withRotations(x, w, adapters);
  const changing = adapters.filter(changesWeight).filter((each) => !isPlain(each));
  const rescaling = changing.filter(({ parts }) => parts.magnitude !== undefined);
  const beside = changing.filter(({ parts }) => parts.magnitude === undefined);
  const base = rescaling.length > 0 ? plusBias(withDora(x, w, rescaling), w) : multipliedWithBias(x, w);
  const terms = [
    ...beside.map((adapter) => differenceProduct(x, adapter).mul(strengthOf(adapter, adapter.scale, x.dtype))),
    ...adapters.flatMap((adapter) => biasTerms(adapter, x.dtype)),
  ];
  return terms.reduce((sum, term) => sum.add(term), base);
}

// DoRA: with m the magnitude over the length of each row of W + scale · Δ, `W·x + strength · (m ∘ (W + scale · Δ)·x - W·x)`; of columns the same with
// m ∘ x. The lengths do not depend on strength. ComfyUI takes those of rows from W alone; PEFT and LyCORIS, which train so, from the sum.
function withDora(x: Value, w: Weights, adapters: readonly WeightAdapter[]): Value {
  const own = { w, matrix: matrixAt(w) };
  const factored = adapters.map((adapter) => {
    const { factor, isOfInputs } = lengthFactor(adapter, own.matrix);
    return { adapter, factor, isOfInputs, strength: strengthOf(adapter, 1, "f32") };
  });
  const [ofInputs, ofOutputs] = [true, false].map((each) => factored.filter(({ isOfInputs }) => isOfInputs === each));
  // What W multiplies beside x itself: in one product with it, unless that is wanted by itself.
  const more = ofInputs!
    .map(({ factor, strength }) => factor.sub(1).mul(strength))
    .reduce((sum: Value | undefined, each) => (sum ? sum.add(each) : each), undefined);
  const isApart = ofOutputs!.length > 0;
  const product = ownProduct(more && !isApart ? x.mul(more.add(1).cast(x.dtype)) : x, own);
  const terms = [
    ...(more && isApart ? [ownProduct(x.mul(more.cast(x.dtype)), own)] : []),
    ...ofInputs!.map(({ adapter, factor }) =>
      differenceProduct(x.mul(factor.cast(x.dtype)), adapter).mul(strengthOf(adapter, adapter.scale, x.dtype)),
    ),
    ...ofOutputs!.map(({ adapter, factor, strength }) => {
      const difference = differenceProduct(x, adapter).mul(adapter.scale).mul(factor.cast(x.dtype));
      return product.mul(factor.sub(1).cast(x.dtype)).add(difference).mul(strength.cast(x.dtype));
    }),
  ];
  return terms.reduce((sum, term) => sum.add(term), product);
}

function plusBias(product: Value, w: Weights): Value {
  return w.has("bias") ? product.add(w.get("bias").cast(product.dtype)) : product;
}

// The output of a layer whose weight is turned: a bias stays as it is.
function withRotations(x: Value, w: Weights, adapters: readonly AdapterValues[]): Value {
  const terms = adapters.flatMap((adapter) => biasTerms(adapter, x.dtype));
  return terms.reduce((sum, term) => sum.add(term), plusBias(inOrder(x, w, adapters), w));
}

// As ComfyUI does: a rotation turns what the adapters before it made of the weight, too; what is added counts from the model's own weight.
function inOrder(x: Value, w: Weights, adapters: readonly AdapterValues[]): Value {
  const at = adapters.findLastIndex(isRotation);
  const after = adapters.slice(at + 1).filter(changesWeight);
  const rescaling = after.filter(({ parts }) => parts.magnitude !== undefined);
  const beside = after.filter(({ parts }) => parts.magnitude === undefined);
  const last = adapters[at];
  const turned =
    last && isRotation(last) ? rotated(x, last, (each) => inOrder(each, w, adapters.slice(0, at))) : undefined;
  const rescaled = rescaling.length > 0 ? withDora(x, w, rescaling) : undefined;
  const product =
    turned && rescaled ? turned.add(rescaled.sub(multiplied(x, w))) : (turned ?? rescaled ?? multiplied(x, w));
  return beside
    .map((adapter) => differenceProduct(x, adapter).mul(strengthOf(adapter, adapter.scale, x.dtype)))
    .reduce((sum, term) => sum.add(term), product);
}

// The magnitudes of a DoRA over the lengths of the rows [out], or columns [in], of W + scale · Δ, in float32.
function lengthFactor(adapter: WeightAdapter, matrix: Value): { factor: Value; isOfInputs: boolean } {
  const magnitude = adapter.parts.magnitude!.cast("f32");
  const isOfInputs = magnitude.rank === 2 && magnitude.dim(0) === 1;
  const sum = matrix.add(differenceMatrix(adapter, "f32").mul(adapter.scale));
  const squares = sum.mul(sum).sumOver(isOfInputs ? 0 : 1);
  return { factor: magnitude.reshape(squares.shape).div(squares.sqrt().add(EPSILON)), isOfInputs };
}

/** A weight at its place, and as f32 [out, in]. */
interface OwnWeight {
  readonly w: Weights;
  readonly matrix: Value;
}

// x times a weight that is there in float32 already: in float32 it is not widened twice.
function ownProduct(x: Value, { w, matrix }: OwnWeight): Value {
  return x.dtype === matrix.dtype ? gemm(x, matrix) : multiplied(x, w);
}

// What is added to every output: the bias of a LoRA scaled as its product is, and a difference of the bias.
function biasTerms(adapter: AdapterValues, dtype: DType): Value[] {
  const { up_bias, diff_b } = adapter.parts;
  const term = (bias: Value | undefined, scale: number) =>
    bias
      ? [
          bias
            .cast("f32")
            .mul(strengthOf(adapter, scale, "f32"))
            .cast(dtype),
        ]
      : [];
  return [...term(up_bias, adapter.scale), ...term(diff_b, 1)];
}

// strength · scale of an adapter, [1]; the same for most layers of a graph.
function strengthOf({ strength }: AdapterValues, scale: number, dtype: DType): Value {
  const { graph } = strength;
  return graph.once(`strength ${strength.name}*${scale} ${dtype}`, () => strength.mul(scale).cast(dtype));
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

function rankOf({ parts }: AdapterValues): number {
  return Number(parts.down!.dim(0));
}
