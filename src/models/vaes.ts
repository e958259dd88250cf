// The families of VAEs that qedit runs. What family a file is of is read from its keys and shapes.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import type { DType } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { param, QeditError } from "../std/errors.js";
import { foreignNetwork } from "./foreign-networks.js";
import { QWEN_IMAGE_VAE } from "./qwen-image/vae.js";
import type { LocalReach, VaeConfig, VaeFamily, VaeHalf } from "./vae-family.js";
import { addDecoder, addEncoder, imageOf, latentOf, type VaeDecoderOptions, type VaeOptions } from "./vae-networks.js";

const FAMILIES: readonly VaeFamily[] = [QWEN_IMAGE_VAE];

/** The family of a VAE; throws QEDIT_E_CHECKPOINT when the file is of none. */
function vaeOf(w: Weights): VaeFamily {
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
