// The VAE of Qwen-Image-2.1: Wan 2.2's layers in levels, each beside a shortcut without weights, for pictures with transparency. Keys as in
// qwen_image_2.1_vae_bf16.safetensors; structure (depth, widths, levels) is read from keys and shapes.
// Arithmetic: diffusers v0.42.1 models/autoencoders/autoencoder_kl_qwenimage21.py
import type { Weights } from "../../checkpoint/weights.js";
import type { Value } from "../../graph/value.js";
import { param, QeditError } from "../../std/errors.js";
import type { VaeConfig, VaeFamily, VaeHalf, VaeLayer } from "../vae-family.js";
import { attentionBlock, downsample, residualBlock, upsample } from "../vae-layers.js";
import { refuseMissingLayers } from "../vae-levels.js";
import { QWEN_IMAGE_2_LATENTS } from "./latents-2.js";
import { vae2Cut } from "./vae-2-cuts.js";
import { levelChannels, levelsOf } from "./vae-2-levels.js";
import { averageDown, duplicateUp } from "./vae-2-shortcuts.js";

/** Channels of its pictures: red, green, blue, alpha. */
const RGBA = 4;
/** Of pictures that Wan 2.2's VAE has cut into 2 × 2 pixels before its first convolution. */
const WAN_2_2 = 12;

/** The VAE of Qwen-Image-2.1. */
export const QWEN_IMAGE_2_VAE: VaeFamily = {
  name: "Qwen-Image-2.1",
  keys: [
    "conv2.weight",
    "encoder.conv1.weight",
    "decoder.middle.0.residual",
    "encoder.downsamples.0.downsamples.0.residual",
    "decoder.upsamples.0.upsamples.0.residual",
  ],
  latents: QWEN_IMAGE_2_LATENTS,
  // A token of the vision tower is 2 × 2 of the transformer's, and one latent cell is one of those.
  sizes: { multiple: 32, tokenCells: 1, mostStretch: 0.02, seesReferences: true },
  isGenerative: true,
  config,
  layers: (w, half) => (half === "encoder" ? encoderLevels(w) : decoderLevels(w)),
  cut: vae2Cut,
};

function config(w: Weights): VaeConfig {
  const imageChannels = w.shape("encoder.conv1.weight")[1]!;
  if (imageChannels !== RGBA) {
    const name = imageChannels === WAN_2_2 ? "it is the VAE of Wan 2.2" : `its pictures have ${imageChannels} channels`;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file} as the VAE: ${name}, ${RGBA} channels are wanted`,
      { hint: `Give the VAE of Qwen-Image-2.1: ${param("vae", "qwen_image_2.1_vae_bf16.safetensors")}` },
    );
  }
  for (const half of ["encoder", "decoder"] as const)
    refuseMissingLayers(
      w,
      half,
      levelsOf(w, half).map(({ layers }) => layers.filter((each) => each.has("residual")).length),
    );
  return {
    latentChannels: w.shape("conv2.weight")[1]!,
    imageChannels,
    spatialRatio: 2 ** levelsOf(w, "encoder").filter(({ resampler }) => resampler !== undefined).length,
  };
}

function encoderLevels(w: Weights): VaeLayer[] {
  return levelsOf(w, "encoder").map((level) => (x) => {
    const y = inside(x, level.layers, "encoder");
    const isHalved = level.resampler !== undefined;
    return level.w.scoped(() =>
      y.add(averageDown(x, { channels: levelChannels(level), side: isHalved ? 2 : 1, frames: level.frames })),
    );
  });
}

function decoderLevels(w: Weights): VaeLayer[] {
  return levelsOf(w, "decoder").map((level) => (x) => {
    const y = inside(x, level.layers, "decoder");
    if (level.resampler === undefined) return y;
    return level.w.scoped(() => y.add(duplicateUp(x, { like: y, frames: level.frames })));
  });
}

function inside(x: Value, layers: readonly Weights[], half: VaeHalf): Value {
  return layers.reduce((y, each) => {
    if (each.has("residual")) return residualBlock(y, each);
    if (each.has("to_qkv")) return attentionBlock(y, each);
    return (half === "encoder" ? downsample : upsample)(y, each);
  }, x);
}
