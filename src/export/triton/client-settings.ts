// qedit.json of an exported folder: what a client needs to make the inputs of an edit, and what was exported.

import type { ClientNumbers } from "../../edit/remote/client-inputs.js";
import { PIXEL_STATISTICS } from "../../image/patches.js";
import { EDIT_SIZES } from "../../image/resize/size-rules.js";
import { ASPECT_WEIGHT, MEGAPIXEL, VISION_AREA } from "../../image/resize/sizes.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { editPrompt, TEMPLATE_NAME } from "../../text/prompt.js";
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
    readonly cfg: number;
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
  const { version, model, weights, compute, device, sampling, megapixels, numbers, statistics, models, ensembles } =
    facts;
  const { patches, cell, latentChannels } = numbers;
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
    sigmas: {
      about:
        "steps + 1 noise levels, falling, the last one 0; t[i] = 1 - floor(i * 1000 / steps) / 1000 for i below steps",
      formula: "sigma = shift * t / (1 + (shift - 1) * t)",
      scheduler: sampling.scheduler,
      shift: sampling.shift,
      steps: sampling.steps,
    },
    noise: {
      about: "standard normal, of the latent of the result; qedit takes torch.randn with a seeded CPU generator",
      shape: [1, latentChannels, "height / cell", "width / cell"],
    },
    ...(ensembles.some(({ hasCfg }) => hasCfg) && { cfg: sampling.cfg }),
    prompt: {
      ...promptTexts(),
      tokenizer: TOKENIZER_FILE,
      image_pad: TOKEN.imagePad,
      end: TOKEN.endOfText,
      negative: "",
    },
    sizes: {
      about:
        "the result and reference 1 have the size of picture 1's shape, other references that of their own: sides in multiples, with the least " +
        "aspect_weight * |log(aspect / wanted aspect)| + |log(area / (megapixels * megapixel))|; a picture that would be stretched by more than most_stretch " +
        "(logarithm of aspects) is cropped around its centre first; one Lanczos resize to bytes",
      megapixels,
      megapixel: MEGAPIXEL,
      multiple: EDIT_SIZES.multiple,
      aspect_weight: ASPECT_WEIGHT,
      most_stretch: EDIT_SIZES.mostStretch,
      cell,
    },
    vision: {
      about:
        "each whole picture resized by Lanczos to area pixels, each side rounded to a multiple of patch * merge; (pixel / 255 - mean) / std; rows of pixel_values " +
        "are patches in blocks of merge x merge, in each channel, frame, y, x; image_grid_thw is 1, height / patch, width / patch",
      area: VISION_AREA,
      ...patches,
      ...PIXEL_STATISTICS,
    },
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

// The template with {pictures} and {prompt}; a picture with its number {n}, from 1.
function promptTexts() {
  const template = editPrompt("{prompt}", { slots: [] });
  const start = template.indexOf("{prompt}");
  const withPicture = editPrompt("{prompt}", { slots: [1] });
  const picture = withPicture.slice(start, withPicture.indexOf("{prompt}")).replace("1", "{n}");
  return { name: TEMPLATE_NAME, template: template.replace("{prompt}", "{pictures}{prompt}"), picture };
}
