// qedit rerun: makes a picture again from its recipe.

import { defaulted, type SettingsOf } from "../../edit/parameters/parameter.js";
import { texts } from "../../edit/parameters/parameter-kinds.js";
import { EDIT_PARAMETERS, PICTURE_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { computeOptions, writeOptions } from "../settings/shared-options.js";

const { allowEmptyPrompt, vae, textEncoder, transformer, lora } = EDIT_PARAMETERS;
const { modelsDir, threads, vram } = computeOptions;

const options = {
  set: defaulted(texts, [], {
    summary: "change an option of run, as in --set seed=7; an empty value is its default; repeatable",
    group: "Prompt",
    scope: "call",
    placeholder: "<key=value>",
  }),
  ...{ allowEmptyPrompt, vae, textEncoder, transformer, lora },
  ...writeOptions,
  ...PICTURE_PARAMETERS,
  modelsDir,
  device: { ...computeOptions.device, initialText: "that of the recipe", scope: "call" as const },
  ...{ threads, vram },
};

/** The settings of a call. */
export type RerunSettings = SettingsOf<typeof options>;

/** `qedit rerun out.png --set seed=7`. */
export const rerun = defineCommand({
  description: "Make a picture again from its recipe, and say what differs",
  examples: [
    "qedit rerun out.png",
    "qedit rerun out.png --set seed=7 --set steps=8 -o seed-7.png",
    "qedit rerun out.png photos/cat.jpg --vae qwen_image_vae.safetensors",
  ],
  positionals: [
    ["<picture>", "a picture that qedit made"],
    ["[image...]", "the pictures that it was made from, when they lie elsewhere; - is stdin"],
  ],
  options,
  async perform(call, terminal) {
    const { makeAgain } = await import("../actions/make-again.js");
    await makeAgain(call, terminal);
  },
});
