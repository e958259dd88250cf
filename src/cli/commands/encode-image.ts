// qedit encode-image: pictures to latents.
import { STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/shared-options.js";

/** `qedit encode-image photo.jpg -o latents.safetensors`. */
export const encodeImageCommand = defineCommand({
  examples: [
    "qedit encode-image photo.jpg -o latents.safetensors",
    "qedit encode-image photo.jpg -o - | qedit sample --latents - --cond cond.safetensors",
  ],
  positionals: [["[image...]", "pictures, in the order the prompt counts them; - is stdin; none for an empty latent"]],
  options: {
    ...STAGE_PARAMETERS["encode-image"],
    ...writeOptions,
    ...cacheOptions,
    ...computeOptions,
    ...remoteOptions,
  },
  async perform(call, terminal) {
    const { encodePictures } = await import("../actions/stage-artifact.js");
    await encodePictures(call, terminal);
  },
});
