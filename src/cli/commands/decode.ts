// qedit decode: samples to a picture.
import { PICTURE_PARAMETERS, STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/shared-options.js";

/** `qedit decode samples.safetensors -o out.png`. */
export const decodeCommand = defineCommand({
  examples: [
    "qedit decode samples.safetensors -o out.png",
    "qedit sample --latents latents.safetensors --cond cond.safetensors -o - | qedit decode - -o out.png",
  ],
  positionals: [["<samples>", "what sample made, or ComfyUI's SaveLatent; - is stdin"]],
  // Nothing of it is cached; the options of the stages before are taken all the same, so that a pipeline can give all of them one list.
  options: {
    ...STAGE_PARAMETERS.decode,
    ...writeOptions,
    ...PICTURE_PARAMETERS,
    ...cacheOptions,
    ...computeOptions,
    ...remoteOptions,
  },
  async perform(call, terminal) {
    const { decodeSamples } = await import("../actions/stage-artifact.js");
    await decodeSamples(call, terminal);
  },
});
