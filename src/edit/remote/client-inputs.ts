// The tensors that exported models take, made by the functions of the stages: pictures at their sizes, tokens, patches, packed references, noise and
// noise levels. Whoever calls such models makes them: an export for its own checks, and a machine whose stages run on a server of such models.
import { CHANNELS, type FloatImage, type Image, toBytes } from "../../image/image.js";
import type { PatchConfig } from "../../image/patches.js";
import { patchify } from "../../models/qwen-image/tokens.js";
import { patchesOf, visionConfig } from "../../models/text-encoders.js";
import { vaeConfig } from "../../models/vaes.js";
import { type SamplingSettings, samplingSigmas } from "../../sampling/driver.js";
import { randn } from "../../sampling/noise/noise.js";
import { imageSizePlan, routePixels, type SizeSettings } from "../../stages/encode-image.js";
import { promptTemplate, type SeenPicture, seenPictures } from "../../stages/encode-prompt.js";
import { promptTokens } from "../../stages/networks/embed-prompt.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import type { Picture } from "../../stages/pictures.js";
import { float32, type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";

/** What a client asks for. */
export interface ClientEdit {
  readonly pictures: readonly Picture[];
  readonly prompt: string;
  /** undefined: without guidance. */
  readonly negativePrompt: string | undefined;
  readonly sizes: SizeSettings;
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
  // Clients of exported models normalise as Qwen2.5-VL does.
  const { pixels: _, ...patches } = patchesOf(vision);
  return { patches, cell, latentChannels };
}

/** The inputs of an ensemble for an edit, whose first noise level is 1. */
export function clientInputs(
  { pictures, prompt, negativePrompt, sizes, sampling }: ClientEdit,
  { patches, cell, latentChannels }: ClientNumbers,
  tokenizer: PromptTokenizer,
): Tensors {
  const plan = imageSizePlan(pictures, sizes, { cell });
  const seen = seenPictures(pictures, sizes, { patches });
  const { height, width } = plan.target.latent;
  const sigmas = samplingSigmas(sampling);
  return {
    ...Object.fromEntries(
      pictures.map((picture, index) => [
        `image_${index + 1}`,
        imageTensor(routePixels(picture, plan.images[index]!.reference, sizes)),
      ]),
    ),
    input_ids: promptInput(prompt, seen, sizes, tokenizer).ids,
    ...patchTensors(seen, patches),
    noise: float32([1, latentChannels, height, width], randn(sampling.seed, latentChannels * height * width)),
    sigmas: float32([sigmas.length], sigmas),
    ...(negativePrompt !== undefined && {
      negative_input_ids: promptInput(negativePrompt, seen, sizes, tokenizer).ids,
      cfg: cfgTensor(sampling),
    }),
  };
}

/** The family of text encoders that exported models hold. */
const EXPORTED = "Qwen2.5-VL";

/** A picture [height, width, 3] in bytes. */
export function imageTensor(image: Image | FloatImage): Tensor<"uint8"> {
  const { width, height, data } = toBytes(image, "round");
  return tensor("uint8", [height, width, CHANNELS], new Uint8Array(data));
}

/** The tokens of a prompt about pictures, [1, tokens], and of how many there will be embeddings. Throws QEDIT_E_USAGE when none is seen. */
export function promptInput(
  prompt: string,
  seen: readonly Pick<SeenPicture, "tokens">[],
  settings: Pick<SizeSettings, "match">,
  tokenizer: PromptTokenizer,
): { readonly ids: Tensor<"int64">; readonly kept: number } {
  const template = promptTemplate(prompt, seen.length, { match: settings.match, family: EXPORTED });
  const { ids, dropped } = promptTokens(
    tokenizer.encode(template),
    seen.map(({ tokens }) => tokens),
    EXPORTED,
  );
  return { ids: tensor("int64", [1, ids.length], BigInt64Array.from(ids.map(BigInt))), kept: ids.length - dropped };
}

/** The patches of all pictures, one picture after the other, and the grid of each. */
export function patchTensors(
  seen: readonly SeenPicture[],
  { patch, temporal }: PatchConfig,
): Readonly<Record<"pixel_values" | "image_grid_thw", Tensor>> {
  const width = CHANNELS * temporal * patch ** 2;
  const data = new Float32Array(seen.reduce((sum, { pixelValues }) => sum + pixelValues.data.length, 0));
  let at = 0;
  for (const { pixelValues } of seen) {
    data.set(pixelValues.data, at);
    at += pixelValues.data.length;
  }
  return {
    pixel_values: float32([data.length / width, width], data),
    image_grid_thw: tensor("int64", [seen.length, 3], BigInt64Array.from(seen.flatMap(({ grid }) => grid).map(BigInt))),
  };
}

/** Normalised latents as references: the tokens of all of them, and the size of each. */
export function referenceTensors(
  latents: readonly Tensor<"float32">[],
  sizes: Parameters<typeof patchify>[1],
): Readonly<Record<"reference_tokens" | "reference_sizes", Tensor>> {
  const lengths = latents.flatMap(({ shape }) => shape.slice(-2));
  return {
    reference_tokens: patchify(latents, sizes),
    reference_sizes: tensor("int64", [latents.length, 2], BigInt64Array.from(lengths.map(BigInt))),
  };
}

/** The scale of guidance, [1]. */
export function cfgTensor({ cfg }: Pick<SamplingSettings, "cfg">): Tensor<"float32"> {
  return float32([1], Float32Array.of(cfg));
}
