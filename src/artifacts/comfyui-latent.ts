// The .latent form of ComfyUI, which samples are stored in so that its LoadLatent node opens them, and its SaveLatent files open here:
// https://github.com/comfyanonymous/ComfyUI/blob/01094316268cab9ed5cd53b825b359a7becb9d6c/nodes.py (SaveLatent, LoadLatent)

import type { StoredTensor } from "../checkpoint/checkpoint.js";
import type { Tensor, Tensors } from "../std/tensor.js";
import { float32 } from "../std/tensor.js";

/** Name of the latent in files of SaveLatent. */
export const LATENT_TENSOR = "latent_tensor";

/** An empty tensor that says the latent is not multiplied by the factor below. */
export const MARKER = "latent_format_version_0";

/** Without the marker, LoadLatent takes the values for those of Stable Diffusion 1 times its scale factor. */
const UNMARKED_SCALE = 1 / 0.18215;

/** Tensors of a samples file: the latent [1, channels, h, w] as [1, channels, 1, h, w], for ComfyUI holds this VAE's latents as video, and the marker. */
export function toComfyLatent({ [LATENT_TENSOR]: latent, ...others }: Tensors): Tensors {
  if (latent === undefined) throw new Error(`internal: samples without "${LATENT_TENSOR}"`);
  return { ...others, [LATENT_TENSOR]: { ...latent, shape: latent.shape.toSpliced(2, 0, 1) }, [MARKER]: float32([0]) };
}

/** Shape [1, channels, h, w] of a latent that is stored with or without one frame; any other shape comes back as it is. */
export function withoutFrame(shape: readonly number[]): readonly number[] {
  return shape.length === 5 && shape[2] === 1 ? shape.toSpliced(2, 1) : shape;
}

/** The values as LoadLatent gives them: multiplied when the file has no marker. */
export function fromComfyLatent(values: Float32Array, tensors: ReadonlyMap<string, StoredTensor>): Tensor<"float32"> {
  const scaled = tensors.has(MARKER) ? values : values.map((value) => value * UNMARKED_SCALE);
  return float32(withoutFrame(tensors.get(LATENT_TENSOR)?.shape ?? []), scaled);
}
