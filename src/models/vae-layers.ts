// The layers that the VAEs of the Qwen-Image releases have in common: those of Wan's, one frame at a time, where every causal 3-D convolution is
// exactly the 2-D convolution with its last temporal tap. Keys and order: ComfyUI v0.3.64 comfy/ldm/wan/vae.py (a125cd84).
import type { Weights } from "../checkpoint/weights.js";
import { type ConvOptions, conv2d, multiHeadAttention, rmsNorm, silu, upsampleNearest2x } from "../graph/operators.js";
import { multiplyDims } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { partAt, weightAt } from "./stored-weight.js";

/** F.normalize's floor of the norm, in the reference's RMS_norm. */
const NORM_FLOOR = 1e-12;
/** A convolution of 3 × 3 that keeps the size. */
export const SAME = { stride: 1, pads: [1, 1, 1, 1] } as const satisfies ConvOptions;
/** A convolution of 1 × 1. */
export const POINT = { stride: 1, pads: [0, 0, 0, 0] } as const satisfies ConvOptions;
/** One zero column and row on the right and bottom, as ZeroPad2d((0, 1, 0, 1)) before an unpadded stride-2 convolution. */
const HALVE = { stride: 2, pads: [0, 0, 1, 1] } as const satisfies ConvOptions;

/** The layers between the two ways: residual blocks around an attention. */
export function middle(x: Value, w: Weights): Value {
  const list = w.at("middle");
  return Array.from({ length: w.count("middle") }, (_, index) => list.at(index)).reduce(
    (y, each) => (each.has("residual") ? residualBlock(y, each) : attentionBlock(y, each)),
    x,
  );
}

/** Two normed convolutions beside a shortcut. */
export function residualBlock(x: Value, w: Weights): Value {
  let y = convolution(silu(rmsNormChannels(x, w.at("residual.0"))), w.at("residual.2"), SAME);
  y = convolution(silu(rmsNormChannels(y, w.at("residual.3"))), w.at("residual.6"), SAME);
  const skip = w.has("shortcut") ? convolution(x, w.at("shortcut"), POINT) : x;
  return w.scoped(() => y.add(skip));
}

/** Attention over all pixels, one head as wide as the channels. */
export function attentionBlock(x: Value, w: Weights): Value {
  const qkv = convolution(rmsNormChannels(x, w.at("norm")), w.at("to_qkv"), POINT);
  return w.scoped(() => {
    const tokens = qkv.reshape([1, qkv.dim(1), multiplyDims(x.dim(2), x.dim(3))]).transpose([0, 2, 1]);
    const [q, k, v] = tokens.chunk(3, 2);
    const attended = multiHeadAttention({ q: q!, k: k!, v: v! }, 1).transpose([0, 2, 1]).reshapeLike(x);
    return convolution(attended, w.at("proj"), POINT).add(x);
  });
}

/** A convolution that halves both sides. */
export function downsample(x: Value, w: Weights): Value {
  return convolution(x, w.at("resample.1"), HALVE);
}

/** Doubles both sides, then a convolution. */
export function upsample(x: Value, w: Weights): Value {
  return convolution(
    w.scoped(() => upsampleNearest2x(x)),
    w.at("resample.1"),
    SAME,
  );
}

/** The last norm and convolution of an encoder or decoder. */
export function head(x: Value, w: Weights): Value {
  return convolution(silu(rmsNormChannels(x, w.at("head.0"))), w.at("head.2"), SAME);
}

// x / max(‖x‖, floor) · sqrt(channels) · gamma, per pixel over channels.
function rmsNormChannels(x: Value, w: Weights): Value {
  return w.scoped(() => {
    const pixels = x.reshape([x.dim(1), multiplyDims(x.dim(2), x.dim(3))]);
    const gamma = w.get("gamma").cast(x.dtype);
    return (x.dtype === "f32" ? normBySums(pixels, gamma) : normByRows(pixels, gamma)).reshapeLike(x);
  });
}

// A product with ones sums the squares at the speed of memory; ONNX Runtime's reductions over an outer axis take four to
// seven times as long on the CPU.
function normBySums(pixels: Value, gamma: Value): Value {
  const channels = Number(pixels.dim(0));
  const ones = pixels.graph.constant("f32", [1, channels], new Array<number>(channels).fill(1));
  const norm = ones.matmul(pixels.mul(pixels)).sqrt().max(NORM_FLOOR);
  return pixels.div(norm).mul(gamma.reshape([channels, 1]).mul(Math.sqrt(channels)));
}

// In 16 bits squares overflow at 256 and the floor is 0, so the norm is left to an operator that sums in float32. Its
// epsilon stands under the root, beside the mean: the floor squared over the channels.
function normByRows(pixels: Value, gamma: Value): Value {
  const epsilon = NORM_FLOOR ** 2 / Number(pixels.dim(0));
  return rmsNorm(pixels.transpose([1, 0]), gamma.reshape([pixels.dim(0)]), epsilon).transpose([1, 0]);
}

/** A convolution; kernels are [out, in, time, height, width] or [out, in, height, width], and only the last tap in time sees the frame. */
export function convolution(x: Value, w: Weights, options: ConvOptions): Value {
  return w.scoped(() => {
    const [out, into, time, ...area] = w.shape("weight");
    const lastTap = (kernel: Value) => kernel.slice(2, time! - 1, time!).reshape([out!, into!, ...area]);
    const weight = area.length === 2 ? partAt(w, x.dtype, lastTap) : weightAt(w, x.dtype);
    return conv2d(x, { weight, bias: w.get("bias").cast(x.dtype) }, options);
  });
}
