// The parameters of an edit. Flags, environment variables, settings files, job lines, schemas and recipes all use this table. A new parameter needs
// an entry here, and a field in the settings of the stage that reads it.

import { REFERENCE_METHODS } from "../../models/qwen-image/reference-methods.js";
import { SAMPLER_NAMES, SCHEDULER_NAMES } from "../../sampling/sampling-names.js";
import type { StageName } from "../../stages/stage.js";
import { param } from "../../std/errors.js";
import { defaulted, optional, type SettingsOf } from "./parameter.js";
import {
  bytes,
  choice,
  deviceName,
  noiseLevels,
  number,
  numberOr,
  numberOrOff,
  seed,
  size,
  text,
  texts,
  toggle,
} from "./parameter-kinds.js";

/** The threshold of diffusers' FirstBlockCacheConfig (hooks/first_block_cache.py, 0.39). */
const STEP_CACHE_THRESHOLD = 0.05;
/** Below 1, which would be read as a switch. cache-dit has this range too, ComfyUI's WaveSpeed up to 1. */
const LARGEST_THRESHOLD = 0.99;

/** The parameters of the stages and of finishing. */
export const EDIT_PARAMETERS = {
  vae: optional(text, {
    summary: "VAE, such as qwen_image_vae.safetensors",
    group: "Models",
    placeholder: "<file>",
  }),
  vaeDtype: defaulted(choice(["auto", "float32", "float16"]), "auto", {
    summary: "compute type of the VAE",
    group: "Device",
    placeholder: "<type>",
  }),
  tile: optional(number({ minimum: 64, maximum: 16384, whole: true }), {
    summary: "let the VAE work on squares of so many pixels, with the same result in less memory",
    group: "Device",
    placeholder: "<pixels>",
    initialText: "the whole picture where it fits",
  }),
  size: optional(size, {
    summary: "pixels of the result, multiples of 16, or of 32 with Qwen-Image-2.1",
    group: "Sizes",
    placeholder: "<WxH>",
    initialText: `the shape of picture 1 at ${param("megapixels")}`,
  }),
  megapixels: optional(number({ minimum: 0 }), {
    summary: "pixels of the result and of each reference, in units of 1024²",
    group: "Sizes",
    placeholder: "<count>",
    initialText: "1",
  }),
  resolutionSteps: optional(number({ minimum: 1, maximum: 256, whole: true }), {
    summary: `with ${param("match", "comfyui")}: sides of the result are multiples of it, as in ImageScaleToTotalPixels`,
    group: "Sizes",
    placeholder: "<count>",
    initialText: "1",
  }),
  match: optional(choice(["comfyui", "comfyui-kontext"]), {
    summary: "make the sizes and rounding of another tool's nodes",
    group: "Sizes",
    placeholder: "<tool>",
  }),
  textEncoder: optional(text, {
    summary: "text encoder, such as qwen_2.5_vl_7b_fp8_scaled.safetensors",
    group: "Models",
    placeholder: "<file>",
    aliases: ["clip"],
  }),
  prompt: defaulted(text, "", {
    summary: "what to do with the pictures; - is stdin",
    group: "Prompt",
    placeholder: "<text>",
    short: "p",
    isRequired: true,
    scope: "call",
  }),
  allowEmptyPrompt: defaulted(toggle, false, {
    summary: "edit also by a prompt that says nothing",
    group: "Prompt",
    scope: "call",
  }),
  negativePrompt: optional(text, {
    summary: "what to keep away from; has an effect at a cfg other than 1",
    group: "Prompt",
    placeholder: "<text>",
  }),
  textDtype: defaulted(choice(["auto", "float32", "bfloat16"]), "auto", {
    summary: "compute type of the text encoder",
    group: "Device",
    placeholder: "<type>",
  }),
  transformer: optional(text, {
    summary: "diffusion transformer, such as qwen_image_edit_2509_fp8_e4m3fn.safetensors",
    group: "Models",
    placeholder: "<file>",
    aliases: ["unet"],
  }),
  lora: defaulted(texts, [], {
    summary: "LoRA on the transformer, strength 1 unless given; repeatable",
    group: "Models",
    placeholder: "<file[:strength]>",
  }),
  strictLora: defaulted(toggle, false, {
    summary: "refuse a LoRA with keys that fit nothing",
    group: "Models",
  }),
  seed: defaulted(seed, 0n, {
    summary: "seed of the noise, the same as torch's and ComfyUI's; random draws one",
    group: "Sampling",
    placeholder: "<number>",
  }),
  steps: optional(number({ minimum: 1, maximum: 10_000, whole: true }), {
    summary: "evaluations of the transformer",
    group: "Sampling",
    placeholder: "<count>",
    initialText: "20; with a Lightning LoRA what it was made for",
  }),
  cfg: optional(number({ minimum: 0, maximum: 100 }), {
    summary: "how strongly to follow the prompt over the negative one",
    group: "Sampling",
    placeholder: "<scale>",
    initialText: "2.5; 1 with a Lightning LoRA",
  }),
  sampler: defaulted(choice(SAMPLER_NAMES), "euler", {
    summary: "how to step from one noise level to the next",
    group: "Sampling",
    placeholder: "<name>",
  }),
  scheduler: defaulted(choice(SCHEDULER_NAMES), "simple", {
    summary: "how to space the noise levels",
    group: "Sampling",
    placeholder: "<name>",
  }),
  shift: defaulted(number({ minimum: 0.01, maximum: 100 }), 3, {
    summary: "shift of the noise levels, as ModelSamplingAuraFlow",
    group: "Sampling",
    placeholder: "<number>",
  }),
  sigmas: optional(noiseLevels, {
    summary: `the noise levels themselves, in place of ${param("steps")}, ${param("scheduler")} and ${param("shift")}`,
    group: "Sampling",
    placeholder: "<1,0.9,…>",
  }),
  denoise: defaulted(number({ minimum: 0, maximum: 1 }), 1, {
    summary: "share of the schedule to run; below 1 starts from picture 1",
    group: "Sampling",
    placeholder: "<share>",
  }),
  cfgNorm: defaulted(numberOr("none", { minimum: 0, maximum: 100 }), 1, {
    summary: "strength of CFGNorm; none leaves it out",
    group: "Sampling",
    placeholder: "<strength>",
  }),
  lcmNoise: optional(number({ minimum: 0, maximum: 64 }), {
    summary: "factor of the noise that the sampler lcm adds, s_noise of ComfyUI's SamplerLCM",
    group: "Sampling",
    placeholder: "<factor>",
    initialText: "1",
  }),
  lcmNoiseEnd: optional(number({ minimum: 0, maximum: 64 }), {
    summary: "that factor at the last step, s_noise_end",
    group: "Sampling",
    placeholder: "<factor>",
    initialText: "as at the first",
  }),
  lcmNoiseClip: optional(number({ minimum: 0, maximum: 10 }), {
    summary: "largest noise that lcm adds, in standard deviations, noise_clip_std; 0 is as drawn",
    group: "Sampling",
    placeholder: "<count>",
    initialText: "0",
  }),
  referenceMethod: optional(choice(REFERENCE_METHODS), {
    summary: "positions of the pictures for the transformer, as FluxKontextMultiReferenceLatentMethod",
    group: "Sampling",
    placeholder: "<method>",
    initialText: "what the transformer was made for",
  }),
  dtype: defaulted(choice(["auto", "float32", "bfloat16"]), "auto", {
    summary: "compute type of the transformer",
    group: "Device",
    placeholder: "<type>",
  }),
  stepCache: optional(numberOrOff(STEP_CACHE_THRESHOLD, { minimum: 0, maximum: LARGEST_THRESHOLD }), {
    summary:
      "run the transformer's first block alone where what it adds changed by no more than this share since the last whole run: faster, another picture",
    group: "Sampling",
    placeholder: "[share]",
    initialText: `off; ${STEP_CACHE_THRESHOLD} without a number`,
  }),
  keepSize: defaulted(toggle, false, {
    summary: "give back exactly the pixels of picture 1",
    group: "Sizes",
  }),
  noMetadata: defaulted(toggle, false, {
    summary: "leave out of the file how the picture was made",
    group: "Output",
  }),
  keepExif: defaulted(toggle, false, {
    summary: "keep the EXIF of picture 1: date, camera, place",
    group: "Output",
  }),
  pasteBack: defaulted(toggle, false, {
    summary: "keep picture 1's own pixels outside the mask, or outside what changed",
    group: "Output",
  }),
  mask: optional(text, {
    summary: `with ${param("paste_back")} or ${param("crop_mask")}: a picture, white where the edit belongs`,
    group: "Output",
    placeholder: "<file>",
    scope: "call",
  }),
  cropMask: defaulted(toggle, false, {
    summary: `edit only the region around the mask, at full resolution, and put it back`,
    group: "Output",
  }),
  maskMargin: optional(number({ minimum: 0, maximum: 100_000, whole: true }), {
    summary: `with ${param("crop_mask")}: pixels around the mask that are seen too`,
    group: "Output",
    placeholder: "<pixels>",
    initialText: "a quarter of the mask's longer side, 64 at least",
  }),
  feather: optional(number({ minimum: 0, maximum: 1000, whole: true }), {
    summary: `with ${param("paste_back")}: width of the soft edge`,
    group: "Output",
    placeholder: "<pixels>",
    initialText: "1/64 of the shorter side",
  }),
};

/** The values of an edit. */
export type EditSettings = SettingsOf<typeof EDIT_PARAMETERS>;

const { vae, vaeDtype, tile, size: pixels, megapixels, resolutionSteps, match } = EDIT_PARAMETERS;
const { textEncoder, prompt, allowEmptyPrompt, negativePrompt, textDtype } = EDIT_PARAMETERS;
const { transformer, lora, strictLora, seed: noise, steps, cfg, sampler, scheduler } = EDIT_PARAMETERS;
const { shift, sigmas, denoise, cfgNorm, lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod } = EDIT_PARAMETERS;
const { dtype, stepCache, keepSize, noMetadata } = EDIT_PARAMETERS;

/** The parameters of each stage, with its model files. */
export const STAGE_PARAMETERS = {
  "encode-image": { vae, vaeDtype, tile, size: pixels, megapixels, resolutionSteps, match },
  "encode-prompt": {
    ...{ textEncoder, prompt, allowEmptyPrompt, negativePrompt, textDtype },
    // Of pictures that the text encoder sees as the VAE does.
    ...{ size: pixels, megapixels, resolutionSteps, match },
  },
  sample: {
    ...{ transformer, lora, strictLora, seed: noise, steps, cfg, sampler, scheduler },
    ...{ shift, sigmas, denoise, cfgNorm, lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod, dtype },
    ...{ stepCache },
  },
  decode: { vae, vaeDtype, tile, keepSize, match, noMetadata },
} as const satisfies Readonly<Record<StageName, object>>;

/** Parameters that set several others at once. */
export const PRESET_PARAMETERS = {
  fast: optional(choice(["4", "8"]), {
    summary: "the model's Lightning LoRA with the steps, cfg and shift it was made for",
    group: "Sampling",
    placeholder: "<steps>",
  }),
  quality: defaulted(toggle, false, {
    summary: "more steps and stronger guidance, no Lightning LoRA",
    group: "Sampling",
  }),
};

/** Which model to use, and where its files are. */
export const MODEL_PARAMETERS = {
  model: optional(text, {
    summary: "model of models.json whose files to use",
    group: "Models",
    placeholder: "<name>",
    initialText: "qwen-image-edit-2509",
  }),
  checkpoint: optional(text, {
    summary: "file that holds the transformer, the text encoder and the VAE; each may be named by itself too",
    group: "Models",
    placeholder: "<file>",
  }),
  modelsDir: defaulted(texts, [], {
    summary: "folder to search for model files first; repeatable",
    group: "Models",
    placeholder: "<folder>",
  }),
};

/** Where to compute, and in how much memory. */
export const DEVICE_PARAMETERS = {
  device: optional(deviceName, {
    summary: "where to compute: auto, cpu, cuda, or cuda:N; several, as cuda:0,cuda:1, share many edits",
    group: "Device",
    placeholder: "<name>",
    initialText: "auto",
  }),
  threads: optional(number({ minimum: 1, maximum: 1024, whole: true }), {
    summary: "threads on the CPU",
    group: "Device",
    placeholder: "<count>",
    initialText: "all cores",
  }),
  vram: optional(bytes({ unit: 1024 ** 3 }), {
    summary:
      "memory of the device to plan for, such as 24G, 16G, 12G or 8G; what does not fit is read again at every step",
    group: "Device",
    placeholder: "<size>",
    initialText: "what the card has free",
  }),
};

const FORMATS = ["png", "jpg", "jpeg", "webp"] as const;

/** How the picture is written. */
export const PICTURE_PARAMETERS = {
  format: optional(choice(FORMATS), {
    summary: "picture format, when the name of the output does not say it",
    group: "Output",
    placeholder: "<name>",
  }),
  jpegQuality: optional(number({ minimum: 1, maximum: 100, whole: true }), {
    summary: "quality of a JPEG result, 1 to 100",
    group: "Output",
    placeholder: "<quality>",
    initialText: "95",
  }),
  webpQuality: optional(number({ minimum: 1, maximum: 100, whole: true }), {
    summary: "quality of a WebP result, 1 to 100",
    group: "Output",
    placeholder: "<quality>",
    initialText: "95",
  }),
};
