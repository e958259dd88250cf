// The Qwen-Image VAE (Wan 2.1 architecture), one frame at a time, where every causal 3-D convolution is exactly the 2-D
// convolution with its last temporal tap. Keys and order: ComfyUI v0.3.64 comfy/ldm/wan/vae.py (a125cd84). Structure
// (depth, widths, where attention stands) is read from the keys and shapes of the file.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { conv2d, multiHeadAttention, rmsNorm, silu, upsampleNearest2x, type ConvOptions } from "../../graph/operators.js";
import { multiplyDims, type DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";

/** F.normalize's floor of the norm, in the reference's RMS_norm. */
const NORM_FLOOR = 1e-12;
const SAME = { stride: 1, pads: [1, 1, 1, 1] } as const satisfies ConvOptions;
const POINT = { stride: 1, pads: [0, 0, 0, 0] } as const satisfies ConvOptions;
/** One zero column and row on the right and bottom, as ZeroPad2d((0, 1, 0, 1)) before an unpadded stride-2 convolution. */
const HALVE = { stride: 2, pads: [0, 0, 1, 1] } as const satisfies ConvOptions;

/** Numbers of a VAE, read from its file. */
export interface VaeConfig {
  /** Channels of a latent: 16. */
  readonly latentChannels: number;
  /** Channels of a picture: 3. */
  readonly imageChannels: number;
  /** Pixels of a picture along one side of a latent cell: 8. */
  readonly spatialRatio: number;
}

/** Reads the numbers of a VAE from its keys and shapes. */
export function vaeConfig(w: Weights): VaeConfig {
  const downsamples = w.at("encoder.downsamples");
  const count = w.count("encoder.downsamples");
  const halvings = Array.from({ length: count }, (_, index) => downsamples.at(index).has("resample")).filter(Boolean).length;
  return {
    latentChannels: w.shape("conv2.weight")[1]!,
    imageChannels: w.shape("encoder.conv1.weight")[1]!,
    spatialRatio: 2 ** halvings,
  };
}

/** What the arithmetic between the first and the last convolution is done in. */
export interface VaeOptions {
  readonly compute: DType;
}

/** Adds `image` f32 [1, 3, H, W] in 0..1 → `latent` f32 [1, 16, H/8, W/8], the mean of the encoder, un-normalised. */
export function buildVaeEncoder(graph: Graph, w: Weights, { compute }: VaeOptions): void {
  const { imageChannels, latentChannels, spatialRatio } = vaeConfig(w);
  const side = (name: string) => multiplyDims(spatialRatio, name);
  const image = graph.input("image", "f32", [1, imageChannels, side("h"), side("w")]);
  const encoder = w.at("encoder");
  let x = convolution(image.mul(2).sub(1).cast(compute), encoder.at("conv1"), SAME);
  for (let index = 0; index < encoder.count("downsamples"); index += 1) {
    x = layer(x, encoder.at("downsamples").at(index), downsample);
  }
  x = head(middle(x, encoder), encoder);
  const moments = convolution(x, w.at("conv1"), POINT);
  graph.output("latent", moments.slice(1, 0, latentChannels).cast("f32"));
}

/** Adds `latent` f32 [1, 16, h, w], un-normalised → `image` f32 [1, 3, 8h, 8w], clamped to 0..1. */
export function buildVaeDecoder(graph: Graph, w: Weights, { compute }: VaeOptions): void {
  const { latentChannels } = vaeConfig(w);
  const latent = graph.input("latent", "f32", [1, latentChannels, "h", "w"]);
  const decoder = w.at("decoder");
  let x = convolution(latent.cast(compute), w.at("conv2"), POINT);
  x = middle(convolution(x, decoder.at("conv1"), SAME), decoder);
  for (let index = 0; index < decoder.count("upsamples"); index += 1) {
    x = layer(x, decoder.at("upsamples").at(index), upsample);
  }
  graph.output("image", head(x, decoder).cast("f32").add(1).mul(0.5).clip(0, 1));
}

/** Claims that a tensor of the file is rightly unused: time_conv runs between frames, and a picture is one frame. */
export function isIdleInVae(name: string): boolean {
  return name.includes(".time_conv.");
}

function middle(x: Value, w: Weights): Value {
  let y = x;
  for (let index = 0; index < w.count("middle"); index += 1) {
    y = layer(y, w.at("middle").at(index), upsample);
  }
  return y;
}

function layer(x: Value, w: Weights, resample: (x: Value, w: Weights) => Value): Value {
  if (w.has("residual")) return residualBlock(x, w);
  if (w.has("to_qkv")) return attentionBlock(x, w);
  return resample(x, w);
}

function residualBlock(x: Value, w: Weights): Value {
  let y = convolution(silu(rmsNormChannels(x, w.at("residual.0"))), w.at("residual.2"), SAME);
  y = convolution(silu(rmsNormChannels(y, w.at("residual.3"))), w.at("residual.6"), SAME);
  const skip = w.has("shortcut") ? convolution(x, w.at("shortcut"), POINT) : x;
  return w.scoped(() => y.add(skip));
}

// One head as wide as the channels, over all pixels.
function attentionBlock(x: Value, w: Weights): Value {
  const qkv = convolution(rmsNormChannels(x, w.at("norm")), w.at("to_qkv"), POINT);
  return w.scoped(() => {
    const tokens = qkv.reshape([1, qkv.dim(1), multiplyDims(x.dim(2), x.dim(3))]).transpose([0, 2, 1]);
    const [q, k, v] = tokens.chunk(3, 2);
    const attended = multiHeadAttention({ q: q!, k: k!, v: v! }, 1).transpose([0, 2, 1]).reshapeLike(x);
    return convolution(attended, w.at("proj"), POINT).add(x);
  });
}

function downsample(x: Value, w: Weights): Value {
  return convolution(x, w.at("resample.1"), HALVE);
}

function upsample(x: Value, w: Weights): Value {
  return convolution(w.scoped(() => upsampleNearest2x(x)), w.at("resample.1"), SAME);
}

function head(x: Value, w: Weights): Value {
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

// Kernels are [out, in, time, height, width] or [out, in, height, width]; only the last tap in time sees the frame.
function convolution(x: Value, w: Weights, options: ConvOptions): Value {
  return w.scoped(() => {
    const stored = w.get("weight").cast(x.dtype);
    const [out, into, time, ...area] = w.shape("weight");
    const isTemporal = stored.rank === 5;
    const weight = isTemporal ? stored.slice(2, time! - 1, time!).reshape([out!, into!, ...area]) : stored;
    return conv2d(x, { weight, bias: w.get("bias").cast(x.dtype) }, options);
  });
}
