// qedit export triton: a model repository for NVIDIA Triton Inference Server.
import { defaulted, optional } from "../../../edit/parameters/parameter.js";
import { gpuNumbers, number, toggle } from "../../../edit/parameters/parameter-kinds.js";
import {
  DEVICE_PARAMETERS,
  EDIT_PARAMETERS,
  MODEL_PARAMETERS,
  PRESET_PARAMETERS,
} from "../../../edit/parameters/table.js";
import { MOST_IMAGES } from "../../../export/triton/tensor-specs.js";
import { defineCommand } from "../../command.js";

const { vae, vaeDtype, textEncoder, textDtype, transformer, dtype, lora, strictLora } = EDIT_PARAMETERS;
const { shift, cfgNorm, referenceMethod } = EDIT_PARAMETERS;
const { device, vram } = DEVICE_PARAMETERS;

/** What Qwen-Image-Edit was made for, and what a GPU has memory for where all models stay open. */
const IMAGES = 3;

/** Its options. */
export const tritonOptions = {
  ...MODEL_PARAMETERS,
  ...{ vae, textEncoder, transformer, lora, strictLora, ...PRESET_PARAMETERS },
  ...{ vaeDtype, textDtype, dtype, shift, cfgNorm, referenceMethod },
  device: {
    ...device,
    summary: "what the server computes on: cpu, cuda or cuda:N",
    initialText: "cuda where a GPU is found here, else cpu",
  },
  vram: { ...vram, summary: "memory of each GPU that the server may take, such as 80G", initialText: "no limit" },
  images: defaulted(number({ minimum: 1, maximum: MOST_IMAGES, whole: true }), IMAGES, {
    summary: "most pictures of an edit, more than three only of Qwen-Image-2.1; an ensemble for each number up to it",
    group: "Output",
    scope: "call",
    placeholder: "<count>",
  }),
  cfg: defaulted(toggle, false, {
    summary: "ensembles with guidance too, which take a negative prompt",
    group: "Output",
    scope: "call",
  }),
  gpus: optional(gpuNumbers, {
    summary: "GPUs of the server, by number: 0,1 opens every model on both",
    group: "Device",
    scope: "call",
    placeholder: "<numbers>",
    initialText: "0",
  }),
  verify: defaulted(toggle, false, {
    summary: "edit a picture with the exported graphs and with qedit, and compare",
    group: "Output",
    scope: "call",
  }),
  force: defaulted(toggle, false, {
    summary: "replace an exported folder, and allow settings that do not go together",
    group: "Output",
    scope: "call",
    short: "f",
  }),
};

/** `qedit export triton repository/`. */
export const triton = defineCommand({
  examples: [
    "qedit export triton repository/ --model tiny --verify",
    "qedit export triton repository/ --fast 4 --device cuda",
    "qedit export triton repository/ --images 2 --cfg --gpus 0,1",
  ],
  positionals: [["<folder>", "where it goes; it must not be there"]],
  options: tritonOptions,
  async perform(call, terminal) {
    const { exportModels } = await import("../../actions/export-models.js");
    await exportModels(call, terminal);
  },
});
