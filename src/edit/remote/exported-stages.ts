// Stages by exported models: this machine makes their inputs with the functions of a run here, and of their outputs the artifacts and records of one.
import { type Artifact, type ArtifactInfo, floatTensor } from "../../artifacts/artifact.js";
import { fromBytes, type Image } from "../../image/image.js";
import { QWEN_IMAGE } from "../../models/qwen-image/family.js";
import { latentStatistics } from "../../models/vaes.js";
import { noisedLatent, samplingSigmas } from "../../sampling/driver.js";
import { beforeDenormalising, denormaliseLatent } from "../../sampling/latent-scale.js";
import { type DecodeSettings, decodedInfo, decodedPlace, placedPicture, refuseFlat } from "../../stages/decode.js";
import {
  announceImages,
  imageSizePlan,
  latentsInfo,
  latentsOfRoutes,
  routePixels,
  routesOf,
  type SizeSettings,
} from "../../stages/encode-image.js";
import {
  announcePrompts,
  condInfo,
  type EncodePromptSettings,
  refuseEmptyPrompt,
  seenPictures,
} from "../../stages/encode-prompt.js";
import { recordedStatistics, referenceLatents, samplesInfo, usedPrompts } from "../../stages/networks/sampled-parts.js";
import { normalisedLatent } from "../../stages/networks/velocity.js";
import type { Picture } from "../../stages/pictures.js";
import { recordedSampling, type SampleSettings, samplingOf } from "../../stages/sample.js";
import type { Memoize, RecordedFile, StageContext } from "../../stages/stage.js";
import { float32, type Tensor } from "../../std/tensor.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import { cfgTensor, imageTensor, patchTensors, promptInput, referenceTensors } from "./client-inputs.js";
import { type ExportedFacts, numbersOfFacts } from "./exported-facts.js";
import type { ExportedThere } from "./exported-there.js";
import { unfit } from "./remote-model.js";

/** How a stage is followed. */
export interface ThereContext extends Pick<StageContext, "emit" | "signal"> {
  readonly memoize?: Memoize | undefined;
}

/** `encode_image` for each route of the pictures. */
export async function encodeImageThere(
  there: ExportedThere,
  { pictures, settings }: { readonly pictures: readonly Picture[]; readonly settings: SizeSettings },
  context: ThereContext,
): Promise<Artifact> {
  const { facts } = there;
  const { cell, latentChannels } = numbersOfFacts(facts);
  announceImages(pictures, { settings, vae: { cell } }, context.emit);
  const plan = imageSizePlan(pictures, settings, { cell });
  const tensors = await latentsOfRoutes(pictures, routesOf(plan), {
    context,
    async encode(picture, route) {
      const [width, height] = [route.size.width / cell, route.size.height / cell];
      const shape = [1, latentChannels, height, width];
      const image = imageTensor(routePixels(picture, route, settings));
      const outputs = { latent: { type: "float32", shape }, vae_latent: { type: "float32", shape } } as const;
      const { latent, vae_latent: own } = await there.run({ image }, outputs);
      const normalised = normalisedLatent(own as Tensor<"float32">, facts.statistics);
      if (!isNear(normalised.data, latent.data as Float32Array))
        throw unfit(there.from, "its latents are not normalised by the statistics of its configuration");
      return own as Tensor<"float32">;
    },
  });
  const info = latentsInfo(pictures, { plan, ...vaeFacts(facts) }, settings);
  return { kind: "latents", tensors, info };
}

/** Of the larger of two values and 1: what another processor's division may round otherwise, and more. */
const NEAR = 1e-3;

function isNear(a: Float32Array, b: Float32Array): boolean {
  return a.every((value, at) => Math.abs(value - b[at]!) <= NEAR * Math.max(1, Math.abs(value)));
}

/** `encode_prompt`, for the negative prompt once more. */
export async function encodePromptThere(
  there: ExportedThere,
  { pictures, settings }: { readonly pictures: readonly Picture[]; readonly settings: EncodePromptSettings },
  context: ThereContext,
): Promise<Artifact> {
  const { facts } = there;
  refuseEmptyPrompt(settings);
  announcePrompts(settings, context.emit);
  const tokenizer = await tokenizerOf(context);
  const seen = seenPictures(pictures, settings, { patches: facts.patches });
  const patches = patchTensors(seen, facts.patches);
  const encode = async (text: string) => {
    context.signal.throwIfAborted();
    const { ids, kept } = promptInput(text, seen, settings, tokenizer);
    const outputs = { prompt_embeds: { type: "float32", shape: [1, kept, undefined] } } as const;
    return (await there.run({ input_ids: ids, ...patches }, outputs)).prompt_embeds as Tensor<"float32">;
  };
  context.emit({ kind: "activity", text: "reading the prompt" });
  const embeds = await encode(settings.prompt);
  const negative = settings.negativePrompt === undefined ? undefined : await encode(settings.negativePrompt);
  return {
    kind: "cond",
    tensors: { prompt_embeds: embeds, ...(negative && { negative_prompt_embeds: negative }) },
    info: condInfo(pictures, { ...condFacts(facts), tokens: embeds.shape[1]!, seen }, settings),
  };
}

/** `sample`, or `sample_cfg` where the edit has guidance: the loop of the sampler is there. */
export async function sampleThere(
  there: ExportedThere,
  {
    latents,
    cond,
    settings,
  }: { readonly latents: Artifact; readonly cond: Artifact; readonly settings: SampleSettings },
  context: ThereContext,
): Promise<Artifact> {
  const { facts } = there;
  const { file } = roleOf(facts, "transformer");
  const width = there.dims("prompt_embeds")[2] ?? -1;
  const textWidth = width === -1 ? cond.tensors["prompt_embeds"]!.shape[2]! : width;
  const latentChannels = facts.latent_channels;
  const statisticsOf = () => latentStatistics(latentChannels);
  const network = { family: QWEN_IMAGE.name, latentChannels, textWidth, placesImages: false, statistics: statisticsOf };
  const named = { network, name: file };
  const statistics = recordedStatistics(latents, named);
  const prompts = usedPrompts(cond, { ...named, cfg: settings.cfg });
  const models = sampleFacts(facts);
  const record = recordedSampling(settings, models.loras, models.computed);
  const info = samplesInfo({ latents: latents.info, cond: cond.info }, models, record);
  const latent = floatTensor(latents, "latent")!;
  const sampling = samplingOf(settings);
  const sigmas = samplingSigmas(sampling);
  // No step: the latent is the result.
  if (sigmas.length === 0) return { kind: "samples", tensors: { latent_tensor: latent }, info };
  const start = noisedLatent({ latent, ...statistics }, { seed: sampling.seed, first: sigmas[0]! });
  const references = referenceLatents(latents).map((each) => normalisedLatent(each, statistics));
  const side = facts.token_side;
  context.emit({ kind: "note", text: `sample runs on ${there.from}, which reports no steps` });
  const { latents: sampled } = await there.run(
    {
      noise: float32(latent.shape, start as Float32Array<ArrayBuffer>),
      ...referenceTensors(references, { patchSize: side, patchWidth: facts.latent_channels * side ** 2 }),
      prompt_embeds: prompts.positive.embeds,
      sigmas: float32([sigmas.length], sigmas as Float32Array<ArrayBuffer>),
      ...(prompts.negative && { negative_prompt_embeds: prompts.negative.embeds, cfg: cfgTensor(sampling) }),
    },
    { latents: { type: "float32", shape: latent.shape } },
  );
  const restored = denormaliseLatent(sampled.data as Float32Array, statistics);
  return { kind: "samples", tensors: { latent_tensor: float32(latent.shape, restored) }, info };
}

/** `decode`. */
export async function decodeThere(
  there: ExportedThere,
  { samples, settings }: { readonly samples: Artifact; readonly settings: PictureSettings },
  context: ThereContext,
): Promise<{ image: Image; info: ArtifactInfo }> {
  const { facts } = there;
  const place = decodedPlace(samples, settings, { channels: facts.latent_channels, name: roleOf(facts, "vae").file });
  const { shape, data } = samples.tensors["latent_tensor"]!;
  context.emit({ kind: "activity", text: "decoding" });
  const latents = float32(shape, beforeDenormalising(data as Float32Array, facts.statistics));
  const [height, width] = shape.slice(2).map((cells) => cells * facts.cell) as [number, number];
  const { image } = await there.run({ latents }, { image: { type: "uint8", shape: [height, width, 3] } });
  return decodedThere(image, samples.info, { facts, place, settings });
}

/** The settings that decide what becomes of a decoded picture. */
export type PictureSettings = Pick<DecodeSettings, "keepSize" | "match">;

/** A decoded picture at its place, with its record. Throws QEDIT_E_BAD_OUTPUT for one of a flat colour. */
export function decodedThere(
  { shape, data }: Tensor,
  samples: ArtifactInfo,
  {
    facts,
    place,
    settings,
  }: {
    readonly facts: ExportedFacts;
    readonly place: Parameters<typeof placedPicture>[1];
    readonly settings: PictureSettings;
  },
): { image: Image; info: ArtifactInfo } {
  const picture = fromBytes({ type: "uint8", shape: [1, ...shape], data: data as Uint8Array<ArrayBuffer> });
  refuseFlat(picture);
  return { image: placedPicture(picture, place), info: decodedInfo(samples, vaeFacts(facts), settings) };
}

/** What records say of a VAE there. */
export function vaeFacts(facts: ExportedFacts) {
  const vae = { ...fileOf(facts, "vae"), statistics: facts.statistics };
  return { vae, computed: computedThere(facts, "vae") };
}

/** What records say of a text encoder there. */
export function condFacts(facts: ExportedFacts) {
  return { textEncoder: fileOf(facts, "text_encoder"), computed: computedThere(facts, "text_encoder") };
}

/** What records say of a transformer there, and of its LoRAs. */
export function sampleFacts(facts: ExportedFacts) {
  const loras = Object.keys(facts.weights).flatMap((_, index) => {
    const lora = facts.weights[`lora.${index}`];
    return lora === undefined ? [] : [{ identity: lora.identity, name: lora.file, strength: lora.strength ?? 1 }];
  });
  return { transformer: fileOf(facts, "transformer"), loras, computed: computedThere(facts, "transformer") };
}

/** The tokenizer, memoized. */
export function tokenizerOf({ memoize }: ThereContext): ReturnType<typeof loadTokenizer> {
  return memoize ? memoize("tokenizer", loadTokenizer) : loadTokenizer();
}

function roleOf({ weights }: ExportedFacts, role: string): ExportedFacts["weights"][string] {
  const found = weights[role];
  if (found === undefined) throw new Error(`internal: an exported model without ${role}`);
  return found;
}

function fileOf(facts: ExportedFacts, role: string): RecordedFile {
  const { identity, file } = roleOf(facts, role);
  return { identity, name: file };
}

// As computedOn: the runtime is that of the export, for servers do not tell theirs.
function computedThere(
  { device, compute, runtime }: ExportedFacts,
  network: keyof ExportedFacts["compute"],
): Readonly<Record<string, string>> {
  return { device, compute_type: compute[network], runtime };
}
