// The VAE of Qwen-Image (Wan 2.1 architecture). Structure (depth, widths, places of attention) is read from the keys and shapes of the file.
import type { Weights } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import type { VaeConfig, VaeFamily, VaeHalf, VaeLayer } from "../vae-family.js";
import { attentionBlock, downsample, residualBlock, upsample } from "../vae-layers.js";
import { refuseMissingLayers } from "../vae-levels.js";
import { QWEN_IMAGE_LATENTS } from "./latents.js";
import { decoderCut, encoderCut } from "./vae-parts.js";

/** Channels of the pictures that the Qwen-Image VAE takes, and of those that the VAE of Qwen-Image-Layered takes: with transparency. */
const RGB = 3;
const RGBA = 4;

const LISTS = { encoder: "encoder.downsamples", decoder: "decoder.upsamples" } as const;
type LayerList = (typeof LISTS)[VaeHalf];

/** The VAE of Qwen-Image and its releases for edits. */
export const QWEN_IMAGE_VAE: VaeFamily = {
  name: "Qwen-Image",
  keys: ["conv2.weight", "encoder.conv1.weight", "decoder.middle.0.residual", "encoder.downsamples.0.residual"],
  latents: QWEN_IMAGE_LATENTS,
  sizes: { multiple: 16, tokenCells: 2, mostStretch: 0.01, seesReferences: false },
  isGenerative: false,
  config,
  layers: (w, half) => layersOf(w, LISTS[half]),
  cut: (w, half) => (half === "encoder" ? encoderCut(w) : decoderCut(w)),
};

function config(w: Weights): VaeConfig {
  refuseOtherChannels(w);
  for (const half of ["encoder", "decoder"] as const) refuseMissingLayers(w, half, residualBlocks(w, LISTS[half]));
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

// Of each level: a layer that resamples ends one.
function residualBlocks(w: Weights, name: LayerList): readonly number[] {
  const list = w.at(name);
  const counts = [0];
  for (const index of Array(w.count(name)).keys()) {
    if (list.at(index).has("resample")) counts.push(0);
    else if (list.at(index).has("residual")) counts.push(counts.pop()! + 1);
  }
  return counts;
}

function refuseOtherChannels(w: Weights): void {
  const channels = w.shape("encoder.conv1.weight")[1];
  if (channels === RGB) return;
  const name = channels === RGBA ? "the VAE of Qwen-Image-Layered, which works on" : "a VAE of";
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the VAE: it is ${name} pictures of ${channels} channels, ${RGB} are wanted`,
    { hint: `Give the VAE of Qwen-Image: ${param("vae", "qwen_image_vae.safetensors")}` },
  );
}

function layersOf(w: Weights, name: LayerList): VaeLayer[] {
  const list = w.at(name);
  return Array.from({ length: w.count(name) }, (_, index) => {
    const each = list.at(index);
    if (each.has("residual")) return (x) => residualBlock(x, each);
    if (each.has("to_qkv")) return (x) => attentionBlock(x, each);
    return (x) => (name === "encoder.downsamples" ? downsample : upsample)(x, each);
  });
}
