// The graphs of a VAE of any family: its encoder and decoder, whole or in two parts.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import { type DType, multiplyDims } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import type { VaeFamily, VaePart } from "./vae-family.js";
import { convolution, head, middle, POINT, SAME } from "./vae-layers.js";

/** How a graph of the VAE is built. */
export interface VaeOptions {
  /** What the arithmetic between the first and the last convolution is done in; float32 unless given. */
  readonly compute?: DType;
  readonly part?: VaePart;
}

/**
 * Adds `image` f32 [1, channels, H, W] in 0..1 → `latent` f32 [1, latent channels, h, w], the mean of the encoder, un-normalised. Its local
 * part, the first, gives `features` f32 [1, channels, rows, columns], which its global part takes.
 */
export function addEncoder(
  graph: Graph,
  { w, family }: FamilyWeights,
  { compute = "f32", part = "all" }: VaeOptions = {},
): void {
  const { channels, ratio, layers } = family.cut(w, "encoder");
  const { spatialRatio, imageChannels } = family.config(w);
  const sides = (cell: number) => [multiplyDims(cell, "h"), multiplyDims(cell, "w")] as const;
  const features =
    part === "global"
      ? graph.input("features", "f32", [1, channels, ...sides(spatialRatio / ratio)]).cast(compute)
      : encoderFeatures(
          graph.input("image", "f32", [1, imageChannels, ...sides(part === "local" ? ratio : spatialRatio)]),
          w,
          compute,
        );
  const down = family.layers(w, "encoder");
  const x = through(features, down.slice(part === "global" ? layers : 0, part === "local" ? layers : down.length));
  if (part === "local") {
    graph.output("features", x.cast("f32"));
    return;
  }
  graph.output("latent", encoderMean(x, { w, family }));
}

/** The weights of a VAE, and what family it is of. */
export interface FamilyWeights {
  readonly w: Weights;
  readonly family: VaeFamily;
}

/** The latent that addEncoder gives, of a picture f32 [1, channels, H, W] in 0..1 that a graph has already. */
export function latentOf(image: Value, { w, family }: FamilyWeights, compute: DType): Value {
  return encoderMean(through(encoderFeatures(image, w, compute), family.layers(w, "encoder")), { w, family });
}

function encoderFeatures(image: Value, w: Weights, compute: DType): Value {
  return convolution(image.mul(2).sub(1).cast(compute), w.at("encoder.conv1"), SAME);
}

function encoderMean(features: Value, { w, family }: FamilyWeights): Value {
  const x = head(middle(features, w.at("encoder")), w.at("encoder"));
  const moments = convolution(x, w.at("conv1"), POINT);
  return moments.slice(1, 0, family.config(w).latentChannels).cast("f32");
}

/** How a graph of the decoder is built. */
export interface VaeDecoderOptions extends VaeOptions {
  /** How the picture becomes bytes, "round" to the nearest or "truncate"; unless given, it stays in floats. */
  readonly quantization?: "round" | "truncate" | undefined;
}

/**
 * Adds `latent` f32 [1, latent channels, h, w], un-normalised → `image` f32 [1, channels, H, W], clamped to 0..1; or quantised,
 * u8 [1, H, W, channels], and `finite` f32 [], 0, or NaN where a value is NaN or infinite. Its global part, the first, gives `features`
 * f32 [1, channels, rows, columns], which its local part takes.
 */
export function addDecoder(
  graph: Graph,
  { w, family }: FamilyWeights,
  { compute = "f32", part = "all", quantization }: VaeDecoderOptions = {},
): void {
  const { channels, layers } = family.cut(w, "decoder");
  const features =
    part === "local"
      ? graph.input("features", "f32", [1, channels, "h", "w"]).cast(compute)
      : decoderFeatures(graph.input("latent", "f32", [1, family.config(w).latentChannels, "h", "w"]), w, compute);
  const up = family.layers(w, "decoder");
  const x = through(features, up.slice(part === "local" ? layers : 0, part === "global" ? layers : up.length));
  if (part === "global") graph.output("features", x.cast("f32"));
  else giveImage(graph, head(x, w.at("decoder")).cast("f32"), quantization);
}

/** The picture of an un-normalised latent that a graph has already: f32 [1, channels, H, W], about −1..1, not clamped. */
export function imageOf(latent: Value, { w, family }: FamilyWeights, compute: DType): Value {
  const x = through(decoderFeatures(latent, w, compute), family.layers(w, "decoder"));
  return head(x, w.at("decoder")).cast("f32");
}

function through(x: Value, layers: readonly ((x: Value) => Value)[]): Value {
  return layers.reduce((y, layer) => layer(y), x);
}

/** A decoded picture as bytes, u8 [1, H, W, channels]. */
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
