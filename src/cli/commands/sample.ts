// qedit sample: latents and a prompt's embeddings to samples.

import { defaulted } from "../../edit/parameters/parameter.js";
import { text } from "../../edit/parameters/parameter-kinds.js";
import { PRESET_PARAMETERS, STAGE_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, computeOptions, writeOptions } from "../settings/shared-options.js";

const inputs = {
  latents: defaulted(text, "", {
    summary: "what encode-image made; - is stdin",
    group: "Prompt",
    isRequired: true,
    scope: "call",
    placeholder: "<file>",
  }),
  cond: defaulted(text, "", {
    summary: "what encode-prompt made; - is stdin",
    group: "Prompt",
    isRequired: true,
    scope: "call",
    placeholder: "<file>",
  }),
};

/** `qedit sample --latents latents.safetensors --cond cond.safetensors -o samples.safetensors`. */
export const sampleCommand = defineCommand({
  examples: ["qedit sample --latents latents.safetensors --cond cond.safetensors --seed 42 -o samples.safetensors"],
  options: {
    ...inputs,
    ...STAGE_PARAMETERS.sample,
    ...PRESET_PARAMETERS,
    ...writeOptions,
    ...cacheOptions,
    ...computeOptions,
    ...remoteOptions,
  },
  async perform(call, terminal) {
    const { sampleLatents } = await import("../actions/stage-artifact.js");
    await sampleLatents(call, terminal);
  },
});
