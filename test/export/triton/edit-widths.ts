// The lengths of tensors of Qwen-Image-Edit.
import type { TensorWidths } from "../../../src/export/triton/tensor-specs.js";

/** Those of the published model, but for what is given. */
export function editWidths(given: Partial<TensorWidths> = {}): TensorWidths {
  return {
    ...{ latentChannels: 16, imageChannels: 3, sideMultiple: 16, placesImages: false },
    pictures: { least: 1, most: 3 },
    ...{ tokenWidth: 64, promptWidth: 3584, pixelWidth: 1176 },
    ...given,
  };
}
