// qedit.json of an exported folder: what a client needs to make the inputs of an edit, and what was exported.

import type { ClientNumbers } from "../../edit/remote/client-inputs.js";
import { conventionsOf, type ExportedFamilyName, exportedFamily } from "../../edit/remote/exported-families.js";
import { RGBA_CHANNELS } from "../../image/image.js";
import { ASPECT_WEIGHT, MEGAPIXEL, VISION_AREA } from "../../image/resize/sizes.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { PROMPT_TEMPLATES } from "../../text/prompt-templates.js";
import { TOKEN } from "../../text/vocabulary.js";
import type { Ensemble } from "./ensembles.js";
import type { ExportedModel, TensorSpec } from "./exported-model.js";

/** Name of the file, by which an exported folder is known. */
export const SETTINGS_FILE = "qedit.json";
/** Name of the vocabulary's file. */
export const TOKENIZER_FILE = "tokenizer.json";

/** Raised when clients of earlier exports cannot read it. */
const FORMAT = "qedit-triton 1";

/** A model file that is part of an export. */
export interface ExportedFile {
  readonly file: string;
  /** The identity: equal for equal weights. */
  readonly identity: string;
  /** Of a LoRA. */
  readonly strength?: number;
}

/** What an export is made of. */
export interface ExportFacts {
  readonly version: string;
  readonly model: string;
  readonly weights: Readonly<Record<string, ExportedFile>>;
  /** Compute types by network. */
  readonly compute: Readonly<Record<"vae" | "text_encoder" | "transformer", string>>;
  readonly device: "cpu" | "cuda";
  /** What the graphs hold, and the numbers that clients choose, with their defaults. */
  readonly sampling: {
    readonly sampler: "euler";
    readonly scheduler: string;
    readonly shift: number;
    readonly cfgNorm: number | "none";
    readonly steps: number;
    /** undefined: none was published. */
    readonly cfg: number | undefined;
    /** The noise levels of a model that was made for these alone. */
    readonly sigmas?: readonly number[] | undefined;
  };
  /** Of the result, in units of 1024² pixels; a default. */
  readonly megapixels: number;
  readonly numbers: ClientNumbers;
  /** By which latents are normalised: inside the graphs. */
  readonly statistics: LatentStatistics;
  readonly models: readonly ExportedModel[];
  readonly ensembles: readonly Ensemble[];
}

/** The text of qedit.json. */
export function clientSettings(facts: ExportFacts): string {
  const { version, model, weights, compute, device, sampling, numbers, statistics, models, ensembles } = facts;
  const { family, latentChannels } = numbers;
  const settings = {
    format: FORMAT,
    qedit: version,
    fixed: {
      model,
      weights,
      compute,
      device,
      sampler: sampling.sampler,
      cfg_norm: sampling.cfgNorm,
      latent_statistics: statistics,
    },
    sigmas: sigmasOf(sampling),
    noise: {
      about: "standard normal, of the latent of the result; qedit takes torch.randn with a seeded CPU generator",
      shape: [1, latentChannels, "height / cell", "width / cell"],
    },
    ...(ensembles.some(({ hasCfg }) => hasCfg) && sampling.cfg !== undefined && { cfg: sampling.cfg }),
    prompt: {
      ...promptTexts(family),
      tokenizer: TOKENIZER_FILE,
      image_pad: TOKEN.imagePad,
      end: TOKEN.endOfText,
      negative: "",
    },
    sizes: sizesOf(facts),
    vision: visionOf(numbers),
    ensembles: ensembles.map(({ name, images, hasCfg, inputs, outputs }) => ({
      ...{ name, images, cfg: hasCfg },
      inputs: inputs.map(tensorOf),
      outputs: outputs.map(tensorOf),
    })),
    models: models.map(({ name, summary, inputs, outputs }) => ({
      ...{ name, summary },
      inputs: inputs.map(tensorOf),
      outputs: outputs.map(tensorOf),
    })),
  };
  return `${JSON.stringify(settings, null, 2)}\n`;
}

function tensorOf({ name, datatype, dims, summary }: TensorSpec) {
  return { name, datatype, shape: dims, summary };
}

function sigmasOf({ scheduler, shift, steps, sigmas }: ExportFacts["sampling"]) {
  const made = sigmas === undefined ? "" : "; the model was made for levels, which other numbers of steps may blur";
  return {
    about: `steps + 1 noise levels, falling, the last one 0; t[i] = 1 - floor(i * 1000 / steps) / 1000 for i below steps${made}`,
    formula: "sigma = shift * t / (1 + (shift - 1) * t)",
    ...{ scheduler, shift, steps },
    ...(sigmas !== undefined && { levels: sigmas }),
  };
}

function sizesOf({ megapixels, numbers: { family, cell, imageChannels } }: ExportFacts) {
  const { sizes: rules } = exportedFamily(family).vae;
  return {
    about:
      "the result and reference 1 have the size of picture 1's shape, other references that of their own: sides in multiples, with the least " +
      "aspect_weight * |log(aspect / wanted aspect)| + |log(area / (megapixels * megapixel))|; a picture that would be stretched by more than most_stretch " +
      "(logarithm of aspects) is cropped around its centre first; one Lanczos resize to bytes" +
      (imageChannels === RGBA_CHANNELS ? "; images have the opacity of each pixel as their fourth channel" : ""),
    megapixels,
    megapixel: MEGAPIXEL,
    multiple: rules.multiple,
    aspect_weight: ASPECT_WEIGHT,
    most_stretch: rules.mostStretch,
    cell,
    channels: imageChannels,
  };
}

function visionOf({ family, patches }: ExportFacts["numbers"]) {
  const { references, pixels } = conventionsOf(family);
  const { patch, temporal, merge } = patches;
  const rows =
    "(pixel / 255 - mean) / std; rows of pixel_values are patches in blocks of merge x merge, in each channel, frame, y, x; " +
    "image_grid_thw is 1, height / patch, width / patch";
  return references === undefined
    ? {
        about: `each whole picture resized by Lanczos to area pixels, each side rounded to a multiple of patch * merge; ${rows}`,
        area: VISION_AREA,
        ...{ patch, temporal, merge, ...pixels },
      }
    : { about: `each reference as it is, over white; ${rows}`, ...{ patch, temporal, merge, ...pixels } };
}

function emptyWords(
  write: (prompt: string, options: { slots: readonly number[] }) => string,
  template: string,
): string {
  const [before, after] = template.split("{prompt}") as [string, string];
  const text = write("", { slots: [] });
  return text.slice(before.length, text.length - after.length);
}

// The template with {pictures} and {prompt}; a picture with its number {n}, from 1; what stands between two; what is read of an empty prompt.
function promptTexts(family: ExportedFamilyName) {
  const { name, write } = PROMPT_TEMPLATES[conventionsOf(family).template];
  const template = write("{prompt}", { slots: [] });
  const start = template.indexOf("{prompt}");
  const written = (slots: readonly number[]) => {
    const text = write("{prompt}", { slots });
    return text.slice(start, text.indexOf("{prompt}"));
  };
  const [first, second] = [written([1]), written([2])];
  const both = written([1, 2]);
  return {
    ...{ name, template: template.replace("{prompt}", "{pictures}{prompt}"), picture: first.replace("1", "{n}") },
    between: both.slice(first.length, both.length - second.length),
    empty: emptyWords(write, template),
  };
}
