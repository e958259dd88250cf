// The tensors that exported models take, made by the functions of the stages: pictures at their sizes, tokens, patches, packed references, noise and
// noise levels. Whoever calls such models makes them: an export for its own checks, and a machine whose stages run on a server of such models.
import { CHANNELS, channelsOf, type FloatImage, type Image, toBytes } from "../../image/image.js";
import type { PatchConfig } from "../../image/patches.js";
import { patchify } from "../../models/qwen-image/tokens.js";
import { patchesOf, visionConfig } from "../../models/text-encoders.js";
import { vaeConfig } from "../../models/vaes.js";
import { type SamplingSettings, samplingSigmas } from "../../sampling/driver.js";
import { randn } from "../../sampling/noise/noise.js";
import { imageSizePlan, type PlannedVae, type SizeSettings } from "../../stages/encode-image.js";
import { promptTemplate, type SeenPicture, seenPictures } from "../../stages/encode-prompt.js";
import { routePixels } from "../../stages/image-routes.js";
import { promptTokens } from "../../stages/networks/embed-prompt.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import type { Picture } from "../../stages/pictures.js";
import { float32, type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import { conventionsOf, type ExportedFamilyName, exportedFamily, exportedFamilyName } from "./exported-families.js";

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
  readonly family: ExportedFamilyName;
  readonly patches: PatchConfig;
  /** Pixels along a side of a latent cell. */
  readonly cell: number;
  readonly latentChannels: number;
  /** Channels of a picture: 3, or 4 with transparency. */
  readonly imageChannels: number;
}

/** The numbers of a model that clients need. */
export function clientNumbers({
  vae,
  textEncoder,
  transformer,
}: Readonly<Record<"vae" | "textEncoder" | "transformer", ModelHandle>>): ClientNumbers {
  const { spatialRatio: cell, latentChannels, imageChannels } = vaeConfig(numbersOf(vae.checkpoint));
  const patches = patchesOf(visionConfig(numbersOf(textEncoder.checkpoint), textEncoder.config));
  return { family: exportedFamilyName(transformer), patches, cell, latentChannels, imageChannels };
}

/** What sizes of pictures depend on. */
export function plannedVae({ family, cell }: Pick<ClientNumbers, "family" | "cell">): PlannedVae {
  const { sizes: rules, isGenerative } = exportedFamily(family).vae;
  return { cell, rules, isGenerative };
}

/** Pictures as the vision tower takes them. */
export function seenByClient(
  pictures: readonly Picture[],
  sizes: Parameters<typeof seenPictures>[1],
  { family, patches }: Pick<ClientNumbers, "family" | "patches">,
): SeenPicture[] {
  return seenPictures(pictures, sizes, { patches, references: conventionsOf(family).references });
}

/** The inputs of an ensemble for an edit, whose first noise level is 1. */
export function clientInputs(
  { pictures, prompt, negativePrompt, sizes, sampling }: ClientEdit,
  numbers: ClientNumbers,
  tokenizer: PromptTokenizer,
): Tensors {
  const { family, patches, latentChannels, imageChannels } = numbers;
  const plan = imageSizePlan(pictures, sizes, plannedVae(numbers));
  const seen = seenByClient(pictures, sizes, numbers);
  const idsOf = (text: string) => promptInput(text, seen, { match: sizes.match, family, tokenizer }).ids;
  const { height, width } = plan.target.latent;
  const sigmas = samplingSigmas(sampling);
  return {
    ...Object.fromEntries(
      pictures.map((picture, index) => [
        `image_${index + 1}`,
        imageTensor(
          routePixels(picture, plan.images[index]!.reference, { match: sizes.match, channels: imageChannels }),
        ),
      ]),
    ),
    input_ids: idsOf(prompt),
    // An edit of no picture has them made there.
    ...(pictures.length > 0 && patchTensors(seen, patches)),
    noise: float32([1, latentChannels, height, width], randn(sampling.seed, latentChannels * height * width)),
    sigmas: float32([sigmas.length], sigmas),
    ...(negativePrompt !== undefined && {
      negative_input_ids: idsOf(negativePrompt),
      cfg: cfgTensor(sampling),
    }),
  };
}

/** A picture [height, width, channels] in bytes. */
export function imageTensor(image: Image | FloatImage): Tensor<"uint8"> {
  const { width, height, data } = toBytes(image, "round");
  return tensor("uint8", [height, width, channelsOf(image)], new Uint8Array(data));
}

/** What a prompt's tokens depend on. */
export interface PromptReading {
  readonly match: SizeSettings["match"];
  readonly family: ExportedFamilyName;
  readonly tokenizer: PromptTokenizer;
}

/** The tokens of a prompt about pictures, [1, tokens], and of how many there will be embeddings. Throws QEDIT_E_USAGE when none is seen. */
export function promptInput(
  prompt: string,
  seen: readonly Pick<SeenPicture, "tokens">[],
  { match, family: name, tokenizer }: PromptReading,
): { readonly ids: Tensor<"int64">; readonly kept: number } {
  const { textEncoder: family } = exportedFamily(name);
  const counts = seen.map(({ tokens }) => tokens);
  const template = promptTemplate(prompt, seen.length, { match, family });
  const { ids, dropped } = promptTokens(tokenizer.encode(template), counts, family);
  const leftOut = conventionsOf(name).keepsImageTokens ? 0 : counts.reduce((sum, count) => sum + count, 0);
  return {
    ids: tensor("int64", [1, ids.length], BigInt64Array.from(ids.map(BigInt))),
    kept: ids.length - dropped - leftOut,
  };
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
