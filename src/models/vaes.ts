// The families of VAEs that qedit runs. What family a file is of is read from its keys and shapes.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import type { DType } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { param, QeditError } from "../std/errors.js";
import { type ConfigJson, configNumbers } from "./config-json.js";
import { foreignNetwork } from "./foreign-networks.js";
import { QWEN_IMAGE_VAE } from "./qwen-image/vae.js";
import { QWEN_IMAGE_2_VAE } from "./qwen-image-2/vae-2.js";
import type {
  LatentStatistics,
  LocalReach,
  PublishedLatents,
  VaeConfig,
  VaeFamily,
  VaeHalf,
  VaeNumbers,
} from "./vae-family.js";
import { addDecoder, addEncoder, imageOf, latentOf, type VaeDecoderOptions, type VaeOptions } from "./vae-networks.js";

const FAMILIES: readonly VaeFamily[] = [QWEN_IMAGE_VAE, QWEN_IMAGE_2_VAE];

/** The family of a VAE; throws QEDIT_E_CHECKPOINT when the file is of none. */
export function vaeOf(w: Weights): VaeFamily {
  const missing = FAMILIES.map((family) => ({ family, keys: family.keys.filter((key) => !w.has(key)) }));
  const [nearest] = missing.toSorted((a, b) => a.keys.length - b.keys.length);
  const { family, keys } = nearest!;
  if (keys.length === 0) return family;
  const network = foreignNetwork(w.names());
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the VAE: it has no ${keys[0]}, so it is not of ${family.name}${network === undefined ? "" : `, but ${network}`}`,
    { hint: `Give the VAE of Qwen-Image: ${param("vae", "qwen_image_vae.safetensors")}` },
  );
}

/** The configuration of a VAE; throws QEDIT_E_CHECKPOINT when the file is of another network. */
export function vaeConfig(w: Weights): VaeConfig {
  return vaeOf(w).config(w);
}

/** The configuration of a VAE, and what its family asks of picture sizes. Throws as vaeConfig. */
export function vaeNumbers(w: Weights): VaeNumbers {
  const { config, sizes } = vaeOf(w);
  return { ...config(w), sizes };
}

/** What was published of the latents of so many channels; undefined where no VAE has them. */
export function publishedLatents(channels: number): PublishedLatents | undefined {
  return FAMILIES.find(({ latents }) => latents.mean.length === channels)?.latents;
}

/** The statistics of latents that come without a record: those that were published. Throws QEDIT_E_ARTIFACT where no VAE has so many channels. */
export function latentStatistics(channels: number): LatentStatistics {
  const published = publishedLatents(channels);
  if (published !== undefined) return { mean: published.mean, std: published.std };
  throw new QeditError("QEDIT_E_ARTIFACT", `Cannot normalise latents of ${channels} channels: they do not say how`, {
    hint: `Encode the pictures with qedit: qedit encode-image photo.jpg ${param("vae", "FILE")}`,
  });
}

/** Latent statistics of a VAE: its config's latents_mean and latents_std, else those of its family. Throws QEDIT_E_CHECKPOINT for others than one of each for a channel, the deviations positive. */
export function vaeStatistics(w: Weights, config: ConfigJson): LatentStatistics {
  const family = vaeOf(w);
  const { latentChannels: channels } = family.config(w);
  const mean = configNumbers(config, "latents_mean", family.latents.mean);
  const std = configNumbers(config, "latents_std", family.latents.std);
  const isNormal = std.every((each) => each > 0);
  if (mean.length === channels && std.length === channels && isNormal) return { mean, std };
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot normalise latents of ${channels} channels: there are ${mean.length} means and ${std.length} deviations${isNormal ? "" : ", not all of them positive"}`,
    {
      hint: "Put the VAE's config.json, with latents_mean and latents_std, under the safetensors metadata key `config`",
    },
  );
}

/** Adds the encoder of a VAE to a graph (see addEncoder). */
export function buildVaeEncoder(graph: Graph, w: Weights, options?: VaeOptions): void {
  addEncoder(graph, { w, family: vaeOf(w) }, options);
}

/** Adds the decoder of a VAE to a graph (see addDecoder). */
export function buildVaeDecoder(graph: Graph, w: Weights, options?: VaeDecoderOptions): void {
  addDecoder(graph, { w, family: vaeOf(w) }, options);
}

/** The latent that the encoder gives, of a picture that a graph has already (see latentOf). */
export function encodedLatent(image: Value, w: Weights, compute: DType): Value {
  return latentOf(image, { w, family: vaeOf(w) }, compute);
}

/** The picture that the decoder gives, of a latent that a graph has already (see imageOf). */
export function decodedImage(latent: Value, w: Weights, compute: DType): Value {
  return imageOf(latent, { w, family: vaeOf(w) }, compute);
}

/** Reads from the layers of a network how far its local part sees. */
export function localReach(w: Weights, half: VaeHalf): LocalReach {
  const { channels, ratio, margin } = vaeOf(w).cut(w, half);
  return { channels, ratio, margin };
}

/** Whether a VAE reads no tensor of this name: time_conv runs between frames, and a picture is one frame. */
export function isIdleInVae(name: string): boolean {
  return name.includes(".time_conv.");
}
