// The fused operators that the networks are made of, as functions over values: emitted here, not left to the optimizer to find.
// Operator schemas: onnx/docs/Operators.md (opset 23) and onnxruntime/docs/ContribOperators.md (com.microsoft).
import { MICROSOFT } from "./node.js";
import { addDims, type Dim, divideDim, multiplyDims, sameShape } from "./types.js";
import type { Value } from "./value.js";

/** Opset of the default domain: the first with RMSNormalization, RotaryEmbedding and Attention. */
export const OPSET = 23;

function refuse(operator: string, value: Value, reason: string): Error {
  return new Error(`Cannot apply ${operator} to ${value.text()}: ${reason} in "${value.graph.place(operator)}"`);
}

/** `x · weightᵀ + bias` for x [rows, in], weight [out, in] as checkpoints store it, bias [out] or [rows, out]. */
export function gemm(x: Value, weight: Value, bias?: Value): Value {
  if (x.rank !== 2 || weight.rank !== 2 || x.dim(1) !== weight.dim(1) || x.dtype !== weight.dtype) {
    throw refuse("Gemm", x, `it does not fit ${weight.text()}`);
  }
  if (bias && (!sameShape(bias.shape, [x.dim(0), weight.dim(0)].slice(-bias.rank)) || bias.dtype !== x.dtype)) {
    throw refuse("Gemm", x, `bias ${bias.text()} does not fit ${weight.text()}`);
  }
  const inputs = bias ? [x, weight, bias] : [x, weight];
  const shapes = [[x.dim(0), weight.dim(0)]];
  return x.graph.node("Gemm", inputs, { shapes, dtype: x.dtype, attributes: { transB: { int: 1 } } })[0]!;
}

/** Normalises the last axis to mean 0 and variance 1, then `· scale + shift`; scale and shift [width] may be computed (AdaLN), a shift left out. */
export function layerNorm(x: Value, scale: Value, shift: Value | undefined, epsilon: number): Value {
  const factors = shift ? [scale, shift] : [scale];
  for (const each of factors) {
    if (each.rank !== 1 || each.dim(0) !== x.dim(-1))
      throw refuse("LayerNormalization", x, `${each.text()} does not fit`);
  }
  const attributes = { axis: { int: -1 }, epsilon: { float: epsilon } };
  return x.graph.node("LayerNormalization", [x, ...factors], { shapes: [x.shape], dtype: x.dtype, attributes })[0]!;
}

/** `x / sqrt(mean(x²) + epsilon) · weight` over the last axis. */
export function rmsNorm(x: Value, weight: Value, epsilon: number): Value {
  if (weight.rank !== 1 || weight.dim(0) !== x.dim(-1))
    throw refuse("RMSNormalization", x, `${weight.text()} does not fit`);
  const attributes = { axis: { int: -1 }, epsilon: { float: epsilon } };
  return x.graph.node("RMSNormalization", [x, weight], { shapes: [x.shape], dtype: x.dtype, attributes })[0]!;
}

/** How rotary angles pair up: "interleaved" rotates (2i, 2i+1), "halves" rotates (i, i + d/2). */
export type RotaryPairs = "interleaved" | "halves";

/** Rotates x [1, tokens, heads·d] by angles given as cos and sin [1, tokens, d/2]. */
export function rotary(
  x: Value,
  { cos, sin }: { cos: Value; sin: Value },
  { heads, pairs }: { heads: number; pairs: RotaryPairs },
): Value {
  const width = x.dim(-1);
  if (x.rank !== 3 || typeof width !== "number" || cos.dim(-1) !== width / heads / 2 || cos.dim(1) !== x.dim(1)) {
    throw refuse("RotaryEmbedding", x, `${heads} heads and ${cos.text()} do not fit`);
  }
  const attributes = { interleaved: { int: pairs === "interleaved" ? 1 : 0 }, num_heads: { int: heads } };
  return x.graph.node("RotaryEmbedding", [x, cos, sin], { shapes: [x.shape], dtype: x.dtype, attributes })[0]!;
}

/** Queries, keys and values, each [1, tokens, heads·d]. */
export interface Attended {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
}

/** Full softmax attention, scale d^-0.5; `bias` [1, 1, tokens, tokens] is added to the scores. Gives [1, tokens, heads·d]. */
export function multiHeadAttention({ q, k, v }: Attended, heads: number, bias?: Value): Value {
  const width = q.dim(-1);
  if (q.rank !== 3 || typeof width !== "number" || width % heads !== 0 || k.dim(-1) !== width) {
    throw refuse("MultiHeadAttention", q, `${heads} heads of ${k.text()} do not fit`);
  }
  // Inputs 3 to 5 are a packed bias, a padding mask and the scores' bias.
  const inputs = bias ? [q, k, v, undefined, undefined, bias] : [q, k, v];
  const options = { shapes: [q.shape], dtype: q.dtype, domain: MICROSOFT, attributes: { num_heads: { int: heads } } };
  return q.graph.node("MultiHeadAttention", inputs, options)[0]!;
}

/** Causal softmax attention with fewer key and value heads than query heads, scale d^-0.5. Gives [1, tokens, heads·d]. */
export function causalAttention({ q, k, v }: Attended, heads: { query: number; keyValue: number }): Value {
  const [width, keyWidth] = [q.dim(-1), k.dim(-1)];
  if (Number(width) / heads.query !== Number(keyWidth) / heads.keyValue) {
    throw refuse("Attention", q, `${heads.query} heads and ${heads.keyValue} heads of ${k.text()} do not fit`);
  }
  const attributes = {
    q_num_heads: { int: heads.query },
    kv_num_heads: { int: heads.keyValue },
    is_causal: { int: 1 },
  };
  return q.graph.node("Attention", [q, k, v], { shapes: [q.shape], dtype: q.dtype, attributes })[0]!;
}

/** The inverse of each matrix of x [n, b, b], in float32 as ONNX Runtime has no kernel for fewer bits on every provider. */
export function inverse(x: Value): Value {
  if (x.rank !== 3 || x.dim(1) !== x.dim(2) || x.dtype !== "f32")
    throw refuse("Inverse", x, "float32 [n, b, b] is wanted");
  return x.graph.node("Inverse", [x], { shapes: [x.shape], dtype: x.dtype, domain: MICROSOFT })[0]!;
}

/** `x · sigmoid(x)`. */
export function silu(x: Value): Value {
  const options = { shapes: [x.shape], dtype: x.dtype, domain: MICROSOFT, attributes: { alpha: { float: 1 } } };
  return x.graph.node("QuickGelu", [x], options)[0]!;
}

/** The hyperbolic tangent of each element. */
export function tanh(x: Value): Value {
  return x.graph.node("Tanh", [x], { shapes: [x.shape], dtype: x.dtype })[0]!;
}

/** GELU, exact (erf) or by tanh. */
export function gelu(x: Value, approximate: "none" | "tanh"): Value {
  return x.graph.node("Gelu", [x], {
    shapes: [x.shape],
    dtype: x.dtype,
    attributes: { approximate: { text: approximate } },
  })[0]!;
}

/** Numbers of a 2-D convolution: pads are [top, left, bottom, right]. */
export interface ConvOptions {
  readonly stride: number;
  readonly pads: readonly [number, number, number, number];
  /** Groups of channels that do not see each other; 1 unless given. */
  readonly groups?: number;
}

/** 2-D convolution of x [1, in, h, w] with weight [out, in / groups, kh, kw] and bias [out], if there is one. */
export function conv2d(
  x: Value,
  { weight, bias }: { weight: Value; bias?: Value },
  { stride, pads, groups = 1 }: ConvOptions,
): Value {
  const [channels, kernelHeight, kernelWidth] = [weight.dim(1), weight.dim(2), weight.dim(3)];
  if (
    x.rank !== 4 ||
    x.dim(1) !== multiplyDims(channels, groups) ||
    typeof kernelHeight !== "number" ||
    typeof kernelWidth !== "number"
  ) {
    throw refuse("Conv", x, `${weight.text()} does not fit`);
  }
  const height = convolved(x.dim(2), kernelHeight - pads[0] - pads[2], stride);
  const width = convolved(x.dim(3), kernelWidth - pads[1] - pads[3], stride);
  if (height === undefined || width === undefined) throw refuse("Conv", x, `stride ${stride} does not divide it`);
  const attributes = {
    kernel_shape: { ints: [kernelHeight, kernelWidth] },
    strides: { ints: [stride, stride] },
    pads: { ints: pads },
    ...(groups > 1 && { group: { int: groups } }),
  };
  return x.graph.node("Conv", bias === undefined ? [x, weight] : [x, weight, bias], {
    shapes: [[1, weight.dim(0), height, width]],
    dtype: x.dtype,
    attributes,
  })[0]!;
}

// floor((dim - kernel) / stride) + 1 with kernel counted less its padding.
function convolved(dim: Dim, kernel: number, stride: number): Dim | undefined {
  if (typeof dim === "number") return Math.floor((dim - kernel) / stride) + 1;
  const whole = divideDim(dim, stride);
  return whole === undefined ? undefined : addDims(whole, Math.floor(-kernel / stride) + 1);
}

/** Repeats every pixel of x [1, c, h, w] twice in both directions. */
export function upsampleNearest2x(x: Value): Value {
  const scales = x.graph.constant("f32", [4], [1, 1, 2, 2]);
  const attributes = {
    mode: { text: "nearest" },
    coordinate_transformation_mode: { text: "asymmetric" },
    nearest_mode: { text: "floor" },
  };
  const shape = [x.dim(0), x.dim(1), multiplyDims(x.dim(2), 2), multiplyDims(x.dim(3), 2)];
  return x.graph.node("Resize", [x, undefined, scales], { shapes: [shape], dtype: x.dtype, attributes })[0]!;
}
