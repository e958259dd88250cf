// qedit encode-prompt: a prompt and its pictures to embeddings.
import { STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, computeOptions, promptOptions, writeOptions } from "../settings/shared-options.js";

/** `qedit encode-prompt photo.jpg -p "…" -o cond.safetensors`. */
export const encodePromptCommand = defineCommand({
  examples: [
    'qedit encode-prompt photo.jpg -p "make it black and white" -o cond.safetensors',
    "cat prompt.txt | qedit encode-prompt photo.jpg -p -",
    "qedit encode-prompt photo.jpg --prompt-file prompt.txt",
  ],
  positionals: [["[image...]", "pictures, in the order the prompt counts them; - is stdin"]],
  options: {
    ...STAGE_PARAMETERS["encode-prompt"],
    ...promptOptions,
    ...writeOptions,
    ...cacheOptions,
    ...computeOptions,
    ...remoteOptions,
  },
  async perform(call, terminal) {
    const { encodeText } = await import("../actions/stage-artifact.js");
    await encodeText(call, terminal);
  },
});
