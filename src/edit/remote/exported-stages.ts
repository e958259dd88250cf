// Stages by exported models: this machine makes their inputs with the functions of a run here, and of their outputs the artifacts and records of one.
import { type Artifact, type ArtifactInfo, floatTensor } from "../../artifacts/artifact.js";
import { withoutOpaque } from "../../image/alpha.js";
import { CHANNELS, fromBytes, type Image } from "../../image/image.js";
import type { Prompt } from "../../models/transformer-family.js";
import { latentStatistics } from "../../models/vaes.js";
import { noisedLatent, samplingSigmas } from "../../sampling/driver.js";
import { beforeDenormalising, denormaliseLatent } from "../../sampling/latent-scale.js";
import { type DecodeSettings, decodedInfo, decodedPlace, placedPicture, refuseFlat } from "../../stages/decode.js";
import { announceImages, imageSizePlan, latentsInfo, type SizeSettings } from "../../stages/encode-image.js";
import { announcePrompts, condInfo, type EncodePromptSettings, refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { latentsOfRoutes, type Route, routePixels, routesOf } from "../../stages/image-routes.js";
import type { SeenPrompt } from "../../stages/networks/embed-prompt.js";
import { condTensors } from "../../stages/networks/encode-text.js";
import { recordedStatistics, referenceLatents, samplesInfo, usedPrompts } from "../../stages/networks/sampled-parts.js";
import { normalisedLatent } from "../../stages/networks/velocity.js";
import type { Picture } from "../../stages/pictures.js";
import { recordedSampling, type SampleSettings, samplingOf } from "../../stages/sample.js";
import type { Memoize, RecordedFile, StageContext } from "../../stages/stage.js";
import { float32, type Tensor, tensor } from "../../std/tensor.js";
import { loadTokenizer, type PromptTokenizer, tokenizerKey } from "../../text/tokenizer.js";
import {
  cfgTensor,
  imageTensor,
  patchTensors,
  plannedVae,
  promptInput,
  referenceTensors,
  seenByClient,
} from "./client-inputs.js";
import { type ExportedFacts, numbersOfFacts } from "./exported-facts.js";
import { conventionsOf, exportedFamily } from "./exported-families.js";
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
  const numbers = numbersOfFacts(facts);
  const { cell, latentChannels, imageChannels } = numbers;
  const vae = plannedVae(numbers);
  announceImages(pictures, { settings, vae }, context.emit);
  const plan = imageSizePlan(pictures, settings, vae);
  const shapeOf = ({ size: { width, height } }: Route) => [1, latentChannels, height / cell, width / cell];
  const info = latentsInfo(pictures, { plan, ...vaeFacts(facts) }, settings);
  // Without a picture there is nothing to encode.
  if (pictures.length === 0) return { kind: "latents", tensors: { latent: float32(shapeOf(plan.target)) }, info };
  const tensors = await latentsOfRoutes(pictures, routesOf(plan), {
    context,
    async encode(picture, route) {
      const shape = shapeOf(route);
      const image = imageTensor(routePixels(picture, route, { match: settings.match, channels: imageChannels }));
      const outputs = { latent: { type: "float32", shape }, vae_latent: { type: "float32", shape } } as const;
      const { latent, vae_latent: own } = await there.run({ image }, outputs);
      const normalised = normalisedLatent(own as Tensor<"float32">, facts.statistics);
      if (!isNear(normalised.data, latent.data as Float32Array))
        throw unfit(there.from, "its latents are not normalised by the statistics of its configuration");
      return own as Tensor<"float32">;
    },
  });
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
  const tokenizer = await tokenizerOf(facts, context);
  const numbers = numbersOfFacts(facts);
  const { family } = facts;
  const seen = seenByClient(pictures, settings, numbers);
  const patches = patchTensors(seen, numbers.patches);
  const { placesImages } = exportedFamily(family);
  const encode = async (text: string): Promise<SeenPrompt> => {
    context.signal.throwIfAborted();
    const { ids, kept } = promptInput(text, seen, { match: settings.match, family, tokenizer });
    const inputs = { input_ids: ids, ...patches };
    const embeds = { type: "float32", shape: [1, kept, undefined] } as const;
    if (!placesImages) {
      const { prompt_embeds: found } = await there.run(inputs, { prompt_embeds: embeds });
      return { embeds: found as Tensor<"float32">, imagePositions: undefined };
    }
    const places = { type: "int64", shape: [seen.length] } as const;
    const found = await there.run(inputs, { prompt_embeds: embeds, image_positions: places });
    return {
      embeds: found.prompt_embeds as Tensor<"float32">,
      imagePositions: placesOf(found.image_positions, { kept, from: there.from }),
    };
  };
  context.emit({ kind: "activity", text: "reading the prompt" });
  const positive = await encode(settings.prompt);
  const negative = settings.negativePrompt === undefined ? undefined : await encode(settings.negativePrompt);
  const tokens = positive.embeds.shape[1]!;
  return {
    kind: "cond",
    tensors: condTensors(positive, negative),
    info: condInfo(pictures, { ...condFacts(facts), tokens, seen }, settings),
  };
}

// Places that rise among the tokens that are kept, as artifacts have them.
function placesOf({ data }: Tensor, { kept, from }: { readonly kept: number; readonly from: string }): Tensor<"int32"> {
  const places = [...(data as BigInt64Array)].map(Number);
  if (!places.every((place, index) => place >= (places[index - 1] ?? 0) && place <= kept))
    throw unfit(from, `image_positions [${places.join(", ")}], which are no rising places among ${kept} tokens`);
  return tensor("int32", [places.length], Int32Array.from(places));
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
  const { transformer: family, placesImages } = exportedFamily(facts.family);
  const network = { family, latentChannels, textWidth, placesImages, statistics: statisticsOf };
  const named = { network, name: file };
  const statistics = recordedStatistics(latents, named);
  const prompts = usedPrompts(cond, { ...named, cfg: settings.cfg });
  const models = sampleFacts(facts);
  const record = recordedSampling(settings, models.loras, models.computed);
  const info = samplesInfo({ latents: latents.info, cond: cond.info }, models, { settings: record });
  const latent = floatTensor(latents, "latent")!;
  const sampling = samplingOf(settings);
  const sigmas = samplingSigmas(sampling);
  // No step: the latent is the result.
  if (sigmas.length === 0) return { kind: "samples", tensors: { latent_tensor: latent }, info };
  const start = noisedLatent({ latent, ...statistics }, { seed: sampling.seed, first: sigmas[0]! });
  const references = referenceLatents(latents).map((each) => normalisedLatent(each, statistics));
  const side = facts.token_side;
  const { positive, negative } = prompts;
  const placed = (key: string, { imagePositions = [] }: Prompt) =>
    placesImages && { [key]: tensor("int64", [imagePositions.length], BigInt64Array.from(imagePositions.map(BigInt))) };
  context.emit({ kind: "note", text: `sample runs on ${there.from}, which reports no steps` });
  const { latents: sampled } = await there.run(
    {
      noise: float32(latent.shape, start as Float32Array<ArrayBuffer>),
      ...referenceTensors(references, { patchSize: side, patchWidth: facts.latent_channels * side ** 2 }),
      prompt_embeds: positive.embeds,
      ...placed("image_positions", positive),
      sigmas: float32([sigmas.length], sigmas as Float32Array<ArrayBuffer>),
      ...(negative && {
        negative_prompt_embeds: negative.embeds,
        ...placed("negative_image_positions", negative),
        cfg: cfgTensor(sampling),
      }),
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
  const channels = facts.image_channels ?? CHANNELS;
  const { image } = await there.run({ latents }, { image: { type: "uint8", shape: [height, width, channels] } });
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
  const image = withoutOpaque(picture);
  return { image: placedPicture(image, place), info: decodedInfo(samples, vaeFacts(facts), settings) };
}

/** What records say of a VAE there. */
export function vaeFacts(facts: ExportedFacts) {
  const vae = { ...fileOf(facts, "vae"), statistics: facts.statistics };
  return { vae, computed: computedThere(facts, "vae") };
}

/** What records say of a text encoder there. */
export function condFacts(facts: ExportedFacts) {
  return {
    family: exportedFamily(facts.family).textEncoder,
    textEncoder: fileOf(facts, "text_encoder"),
    computed: computedThere(facts, "text_encoder"),
  };
}

/** What records say of a transformer there, and of its LoRAs. */
export function sampleFacts(facts: ExportedFacts) {
  const loras = Object.keys(facts.weights).flatMap((_, index) => {
    const lora = facts.weights[`lora.${index}`];
    return lora === undefined ? [] : [{ identity: lora.identity, name: lora.file, strength: lora.strength ?? 1 }];
  });
  return { transformer: fileOf(facts, "transformer"), loras, computed: computedThere(facts, "transformer") };
}

/** The tokenizer of a model's vocabulary, memoized. */
export function tokenizerOf(
  { family }: Pick<ExportedFacts, "family">,
  { memoize }: ThereContext,
): Promise<PromptTokenizer> {
  const { vocabulary } = conventionsOf(family);
  const load = () => loadTokenizer(vocabulary);
  return memoize ? memoize(tokenizerKey(vocabulary), load) : load();
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
