// The tensors of one edit, as a client of an exported ensemble makes them: pictures at their sizes, tokens, patches, noise and noise levels.
import { CHANNELS, type Image, toBytes } from "../../image/image.js";
import { type PatchConfig, visionPatches } from "../../image/patches.js";
import { applySteps } from "../../image/resize/resize.js";
import { planSizes } from "../../image/resize/size-plan.js";
import { vaeConfig } from "../../models/qwen-image/vae.js";
import { visionConfig } from "../../models/qwen2.5-vl/text-encoder-config.js";
import { type SamplingSettings, samplingSigmas } from "../../sampling/driver.js";
import { randn } from "../../sampling/noise/noise.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { type Picture, pixelsOf, sourceOf } from "../../stages/pictures.js";
import { float32, type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import { editPrompt, expandImages, seenTokens } from "../../text/prompt.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";

/** What a client asks for. */
export interface ClientEdit {
  readonly pictures: readonly Picture[];
  readonly prompt: string;
  /** undefined: without guidance. */
  readonly negativePrompt: string | undefined;
  /** Pixels of the result and of each reference, in units of 1024². */
  readonly megapixels: number;
  readonly sampling: SamplingSettings;
}

/** The numbers of the exported model that a client needs. */
export interface ClientNumbers {
  readonly patches: PatchConfig;
  /** Pixels along a side of a latent cell. */
  readonly cell: number;
  readonly latentChannels: number;
}

/** The numbers of a model that clients need. */
export function clientNumbers({ vae, textEncoder }: { vae: ModelHandle; textEncoder: ModelHandle }): ClientNumbers {
  const { spatialRatio: cell, latentChannels } = vaeConfig(numbersOf(vae.checkpoint));
  const vision = visionConfig(numbersOf(textEncoder.checkpoint), textEncoder.config);
  const patches = { patch: vision.patchSize, temporal: vision.temporalPatchSize, merge: vision.mergeSize };
  return { patches, cell, latentChannels };
}

/** The inputs of an ensemble for an edit. */
export function clientInputs(edit: ClientEdit, numbers: ClientNumbers, tokenizer: PromptTokenizer): Tensors {
  const { pictures, prompt, negativePrompt, megapixels, sampling } = edit;
  const { patches, cell, latentChannels } = numbers;
  const plan = planSizes(pictures.map(sourceOf), { megapixels, patches, cell });
  const pixels = pictures.map((picture) => pixelsOf(picture, { match: undefined }));
  const seen = pixels.map((image, index) =>
    visionPatches(applySteps(image, plan.images[index]!.vision.steps), patches),
  );
  const tokenCounts = plan.images.map(({ vision }) => vision.tokens);
  const idsOf = (text: string) => {
    const template = editPrompt(text, { slots: pictures.map((_, index) => index + 1) });
    return idsTensor(expandImages(seenTokens(tokenizer.encode(template)), tokenCounts).ids);
  };
  const { height, width } = plan.target.latent;
  const shape = [1, latentChannels, height, width];
  const sigmas = samplingSigmas(sampling);
  return {
    ...Object.fromEntries(
      pixels.map((image, index) => {
        const { steps } = plan.images[index]!.reference;
        return [`image_${index + 1}`, imageTensor(toBytes(applySteps(image, steps), "round"))];
      }),
    ),
    input_ids: idsOf(prompt),
    pixel_values: joined(seen.map(({ pixelValues }) => pixelValues)),
    image_grid_thw: tensor("int64", [seen.length, 3], BigInt64Array.from(seen.flatMap(({ grid }) => grid).map(BigInt))),
    noise: float32(shape, randn(sampling.seed, latentChannels * height * width)),
    sigmas: float32([sigmas.length], sigmas),
    ...(negativePrompt !== undefined && {
      negative_input_ids: idsOf(negativePrompt),
      cfg: float32([1], Float32Array.of(sampling.cfg)),
    }),
  };
}

function imageTensor({ width, height, data }: Image): Tensor<"uint8"> {
  return tensor("uint8", [height, width, CHANNELS], data);
}

function idsTensor(ids: readonly number[]): Tensor<"int64"> {
  return tensor("int64", [1, ids.length], BigInt64Array.from(ids.map(BigInt)));
}

// The rows of all pictures, one after the other.
function joined(parts: readonly Tensor<"float32">[]): Tensor<"float32"> {
  const width = parts[0]!.shape[1]!;
  const rows = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  const data = new Float32Array(rows * width);
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return float32([rows, width], data);
}
