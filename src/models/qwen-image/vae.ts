// The Qwen-Image VAE (Wan 2.1 architecture), one frame at a time, where every causal 3-D convolution is exactly the 2-D
// convolution with its last temporal tap. Keys and order: ComfyUI v0.3.64 comfy/ldm/wan/vae.py (a125cd84). Structure
// (depth, widths, places of attention) is read from the keys and shapes of the file.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import {
  type ConvOptions,
  conv2d,
  multiHeadAttention,
  rmsNorm,
  silu,
  upsampleNearest2x,
} from "../../graph/operators.js";
import { type DType, multiplyDims } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { param, QeditError } from "../../std/errors.js";
import { foreignNetwork } from "../foreign-networks.js";
import { weightAt } from "../stored-weight.js";
import { decoderCut, encoderCut, type VaePart } from "./vae-parts.js";

/** F.normalize's floor of the norm, in the reference's RMS_norm. */
const NORM_FLOOR = 1e-12;
const SAME = { stride: 1, pads: [1, 1, 1, 1] } as const satisfies ConvOptions;
const POINT = { stride: 1, pads: [0, 0, 0, 0] } as const satisfies ConvOptions;
/** One zero column and row on the right and bottom, as ZeroPad2d((0, 1, 0, 1)) before an unpadded stride-2 convolution. */
const HALVE = { stride: 2, pads: [0, 0, 1, 1] } as const satisfies ConvOptions;

/** Configuration of a VAE, read from its file. */
export interface VaeConfig {
  /** Channels of a latent: 16. */
  readonly latentChannels: number;
  /** Channels of a picture: 3. */
  readonly imageChannels: number;
  /** Pixels of a picture along one side of a latent cell: 8. */
  readonly spatialRatio: number;
}

/** Channels of the pictures that the Qwen-Image VAE takes, and of those that the VAE of Qwen-Image-Layered takes: with transparency. */
const RGB = 3;
const RGBA = 4;

/** Reads the configuration of a VAE from its keys and shapes; throws QEDIT_E_CHECKPOINT when the file is of another one. */
export function vaeConfig(w: Weights): VaeConfig {
  refuseOtherVae(w);
  const downsamples = w.at("encoder.downsamples");
  const count = w.count("encoder.downsamples");
  const halvings = Array.from({ length: count }, (_, index) => downsamples.at(index).has("resample")).filter(
    Boolean,
  ).length;
  return {
    latentChannels: w.shape("conv2.weight")[1]!,
    imageChannels: w.shape("encoder.conv1.weight")[1]!,
    spatialRatio: 2 ** halvings,
  };
}

function refuseOtherVae(w: Weights): void {
  const refuse = (reason: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${w.file} as the VAE: ${reason}`, {
      hint: `Give the VAE of Qwen-Image: ${param("vae", "qwen_image_vae.safetensors")}`,
    });
  const wanted = [
    "conv2.weight",
    "encoder.conv1.weight",
    "decoder.middle.0.residual",
    "encoder.downsamples.0.residual",
  ];
  const missing = wanted.find((name) => !w.has(name));
  if (missing !== undefined) {
    const network = foreignNetwork(w.names());
    throw refuse(`it has no ${missing}, so it is not of Qwen-Image${network === undefined ? "" : `, but ${network}`}`);
  }
  const channels = w.shape("encoder.conv1.weight")[1];
  if (channels === RGB) return;
  const name = channels === RGBA ? "the VAE of Qwen-Image-Layered, which works on" : "a VAE of";
  throw refuse(`it is ${name} pictures of ${channels} channels, ${RGB} are wanted`);
}

/** How a graph of the VAE is built. */
export interface VaeOptions {
  /** What the arithmetic between the first and the last convolution is done in; float32 unless given. */
  readonly compute?: DType;
  readonly part?: VaePart;
}

/**
 * Adds `image` f32 [1, 3, H, W] in 0..1 → `latent` f32 [1, 16, H/8, W/8], the mean of the encoder, un-normalised. Its local part, the
 * first, gives `features` f32 [1, channels, H/8, W/8], which its global part takes.
 */
export function buildVaeEncoder(graph: Graph, w: Weights, { compute = "f32", part = "all" }: VaeOptions = {}): void {
  const encoder = w.at("encoder");
  const { channels, ratio, layers } = encoderCut(w);
  const { spatialRatio, imageChannels } = vaeConfig(w);
  const sides = (cell: number) => [multiplyDims(cell, "h"), multiplyDims(cell, "w")] as const;
  const features =
    part === "global"
      ? graph.input("features", "f32", [1, channels, ...sides(spatialRatio / ratio)]).cast(compute)
      : encoderFeatures(
          graph.input("image", "f32", [1, imageChannels, ...sides(part === "local" ? ratio : spatialRatio)]),
          w,
          compute,
        );
  const x = layersOf(features, encoder.at("downsamples"), {
    from: part === "global" ? layers : 0,
    to: part === "local" ? layers : encoder.count("downsamples"),
    resample: downsample,
  });
  if (part === "local") {
    graph.output("features", x.cast("f32"));
    return;
  }
  graph.output("latent", encoderMean(x, w));
}

/** The latent that buildVaeEncoder gives, of a picture f32 [1, 3, H, W] in 0..1 that a graph has already. */
export function encodedLatent(image: Value, w: Weights, compute: DType): Value {
  const encoder = w.at("encoder");
  const layers = { from: 0, to: encoder.count("downsamples"), resample: downsample };
  return encoderMean(layersOf(encoderFeatures(image, w, compute), encoder.at("downsamples"), layers), w);
}

function encoderFeatures(image: Value, w: Weights, compute: DType): Value {
  return convolution(image.mul(2).sub(1).cast(compute), w.at("encoder.conv1"), SAME);
}

function encoderMean(features: Value, w: Weights): Value {
  const x = head(middle(features, w.at("encoder")), w.at("encoder"));
  const moments = convolution(x, w.at("conv1"), POINT);
  return moments.slice(1, 0, vaeConfig(w).latentChannels).cast("f32");
}

/** How a graph of the decoder is built. */
export interface VaeDecoderOptions extends VaeOptions {
  /** How the picture becomes bytes, "round" to the nearest or "truncate"; unless given, it stays in floats. */
  readonly quantization?: "round" | "truncate" | undefined;
}

/**
 * Adds `latent` f32 [1, 16, h, w], un-normalised → `image` f32 [1, 3, 8h, 8w], clamped to 0..1; or quantised, u8 [1, 8h, 8w, 3], and
 * `finite` f32 [], 0, or NaN where a value is NaN or infinite. Its global part, the first, gives `features` f32 [1, channels, h, w],
 * which its local part takes.
 */
export function buildVaeDecoder(
  graph: Graph,
  w: Weights,
  { compute = "f32", part = "all", quantization }: VaeDecoderOptions = {},
): void {
  const decoder = w.at("decoder");
  const { channels, layers } = decoderCut(w);
  const features =
    part === "local"
      ? graph.input("features", "f32", [1, channels, "h", "w"]).cast(compute)
      : decoderFeatures(graph.input("latent", "f32", [1, vaeConfig(w).latentChannels, "h", "w"]), w, compute);
  const x = layersOf(features, decoder.at("upsamples"), {
    from: part === "local" ? layers : 0,
    to: part === "global" ? layers : decoder.count("upsamples"),
    resample: upsample,
  });
  if (part === "global") graph.output("features", x.cast("f32"));
  else giveImage(graph, head(x, decoder).cast("f32"), quantization);
}

/** The picture of an un-normalised latent f32 [1, 16, h, w] that a graph has already: f32 [1, 3, 8h, 8w], about −1..1, not clamped. */
export function decodedImage(latent: Value, w: Weights, compute: DType): Value {
  const decoder = w.at("decoder");
  const layers = { from: 0, to: decoder.count("upsamples"), resample: upsample };
  return head(layersOf(decoderFeatures(latent, w, compute), decoder.at("upsamples"), layers), decoder).cast("f32");
}

/** A decoded picture as bytes, u8 [1, 8h, 8w, 3]. */
export function imageBytes(raw: Value, quantization: "round" | "truncate"): Value {
  return quantised(unitImage(raw), quantization).transpose([0, 2, 3, 1]);
}

function unitImage(raw: Value): Value {
  return raw.add(1).mul(0.5).clip(0, 1);
}

function giveImage(graph: Graph, raw: Value, quantization: VaeDecoderOptions["quantization"]): void {
  if (quantization === undefined) {
    graph.output("image", unitImage(raw));
    return;
  }
  graph.output("image", imageBytes(raw, quantization));
  // Limits and bytes hide what is not finite; 0 times it is NaN, and so is a sum with NaN.
  graph.output("finite", raw.mul(0).sum());
}

/**
 * The bytes of a picture in 0..1, u8, the same as toBytes of image/image.ts makes. The cast cuts off what is behind the point. A half added
 * to the level itself would be rounded to float32 and lift what lies just below it, so halves are counted: (floor(2·level) + 1) / 2 is exact.
 */
export function quantised(image: Value, quantization: "round" | "truncate"): Value {
  const levels =
    quantization === "truncate"
      ? image.mul(255)
      : image
          .mul(2 * 255)
          .floor()
          .add(1)
          .mul(0.5);
  return levels.cast("u8");
}

function decoderFeatures(latent: Value, w: Weights, compute: DType): Value {
  const x = convolution(latent.cast(compute), w.at("conv2"), POINT);
  return middle(convolution(x, w.at("decoder.conv1"), SAME), w.at("decoder"));
}

function layersOf(
  x: Value,
  list: Weights,
  { from, to, resample }: { from: number; to: number; resample: (x: Value, w: Weights) => Value },
): Value {
  let y = x;
  for (let index = from; index < to; index += 1) y = layer(y, list.at(index), resample);
  return y;
}

/** Whether the VAE reads no tensor of this name: time_conv runs between frames, and a picture is one frame. */
export function isIdleInVae(name: string): boolean {
  return name.includes(".time_conv.");
}

function middle(x: Value, w: Weights): Value {
  return layersOf(x, w.at("middle"), { from: 0, to: w.count("middle"), resample: upsample });
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
  return convolution(
    w.scoped(() => upsampleNearest2x(x)),
    w.at("resample.1"),
    SAME,
  );
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
    const stored = weightAt(w, x.dtype);
    const [out, into, time, ...area] = w.shape("weight");
    const isTemporal = stored.rank === 5;
    const weight = isTemporal ? stored.slice(2, time! - 1, time!).reshape([out!, into!, ...area]) : stored;
    return conv2d(x, { weight, bias: w.get("bias").cast(x.dtype) }, options);
  });
}
