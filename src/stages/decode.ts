// The decode stage: latents to a picture, and the picture to the bytes of its file.
import type { Artifact, ArtifactInfo } from "../artifacts/artifact.js";
import { recipeText } from "../artifacts/recipe.js";
import { sizesFault } from "../artifacts/record-faults.js";
import { computeType } from "../engine/providers.js";
import type { Model } from "../engine/sessions/engine.js";
import { withoutOpaque } from "../image/alpha.js";
import { pictureStatistics } from "../image/compare/statistics.js";
import {
  type Box,
  CHANNELS,
  channelsOf,
  fromBytes,
  type Image,
  type Quantization,
  RGBA_CHANNELS,
  type Size,
} from "../image/image.js";
import { MAX_PIXELS } from "../image/io/read.js";
import { encodePicture, LOSSY_QUALITY, type PictureFormat } from "../image/io/write.js";
import { resizeTo } from "../image/resize/resize.js";
import { vaeConfig } from "../models/vaes.js";
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { type VaeRun, wholeVae, withVae } from "./networks/open-vae.js";
import { inVaeType } from "./networks/vae-type.js";
import type { RecordedFile, Stage, StageConfig, StageContext } from "./stage.js";

/** The parameters that decode reads. */
export interface DecodeSettings {
  readonly vaeDtype: string;
  /** Pixels along a side of the VAE's tiles; undefined: the memory plan decides. */
  readonly tile: number | undefined;
  /** Whether the result is resized to the width and height of picture 1. */
  readonly keepSize: boolean;
  readonly match: string | undefined;
  readonly noMetadata: boolean;
}

interface Inputs {
  readonly samples: Artifact;
}
interface Models {
  readonly vae: ModelHandle;
}

/** A decoded picture with its record. */
export interface DecodedPicture {
  readonly image: Image;
  readonly info: ArtifactInfo;
  /** Whether `info` is written into the picture's file. */
  readonly isDescribed: boolean;
  /** An EXIF block that is written into the picture's file. */
  readonly exif?: Buffer;
}

/** `samples` → a picture. */
export const decode: Stage<Inputs, Models, DecodeSettings, DecodedPicture> = {
  name: "decode",
  summary: "Decode latents to a picture",
  version: 1,
  inputs: { samples: "the latents that sample made, or that ComfyUI's SaveLatent wrote" },
  output: "picture",
  parameters: ["vaeDtype", "tile", "keepSize", "match", "noMetadata"],
  async check(_pictures, { settings }, device): Promise<void> {
    computeType(device, "vae", settings.vaeDtype);
  },
  async run({ inputs: { samples }, models: { vae: file }, settings }, context): Promise<DecodedPicture> {
    const place = decodedPlace(samples, settings, {
      channels: vaeConfig(numbersOf(file.checkpoint)).latentChannels,
      name: file.checkpoint.file,
    });
    const latent = samples.tensors["latent_tensor"] as Tensor<"float32">;
    const run = { file, tile: settings.tile, quantization: quantizationOf(settings) };
    const { result: picture, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      decodeLatent(latent, { ...run, compute: type }, context),
    );
    return {
      image: placedPicture(picture, place),
      info: decodedInfo(samples.info, { vae: file, computed: computedOn(context.engine.device, compute) }, settings),
      isDescribed: !settings.noMetadata,
    };
  },
};

/** The size and the place in picture 1 to which a result is resized. */
interface Place {
  readonly source: Size;
  readonly box: Box;
}

/** Where the decoded samples go: undefined: as they are. Throws QEDIT_E_ARTIFACT for samples of other channels than those of a VAE, whose file is `name`, and for samples that do not say how large picture 1 was, or say what cannot be. */
export function decodedPlace(
  samples: Artifact,
  { keepSize }: Pick<DecodeSettings, "keepSize">,
  vae: { readonly channels: number; readonly name: string },
): Place | undefined {
  refuseOtherChannels(samples, vae);
  return resultPlace(samples.info, { keepSize });
}

/** The same by the record of samples alone. */
export function resultPlace(samples: ArtifactInfo, { keepSize }: Pick<DecodeSettings, "keepSize">): Place | undefined {
  return keepSize ? originalPlace(samples) : undefined;
}

/** A decoded picture at its place. */
export function placedPicture(picture: Image, place: Place | undefined): Image {
  return place ? resizeTo(picture, place.source, place.box) : picture;
}

/** The record of a picture by that of its samples; `computed` is what computedOn gives. */
export function decodedInfo(
  samples: ArtifactInfo,
  { vae, computed }: { readonly vae: RecordedFile; readonly computed: object },
  { keepSize, match: tool }: Pick<DecodeSettings, "keepSize" | "match">,
): ArtifactInfo {
  return {
    ...samples,
    settings: {
      ...samples.settings,
      decode: { version: decode.version, keep_size: keepSize, match: tool ?? null, ...computed },
    },
    weights: { ...samples.weights, ...otherEncoder(samples, vae), vae: vae.identity },
    names: { ...samples.names, vae: vae.name },
  };
}

/** Whether edge pixels are repeated around what the models made: picture 1 was cropped, and its size is kept. `run` puts picture 1's own pixels there. */
export function hasRepeatedRim({ settings, sizes }: ArtifactInfo): boolean {
  const { target, images } = sizes as { target?: { box: Box }; images?: readonly { source: Size }[] };
  const [source, box] = [images?.[0]?.source, target?.box];
  if (!source || !box || (settings["decode"] as { keep_size?: boolean }).keep_size !== true) return false;
  return box.width !== source.width || box.height !== source.height;
}

/** The record of a picture that stays as decode made it, without picture 1 at hand: one with a repeated rim says so. */
export function unfinishedInfo(info: ArtifactInfo): ArtifactInfo {
  if (!hasRepeatedRim(info)) return info;
  const stage = info.settings["decode"] as Readonly<Record<string, unknown>>;
  return { ...info, settings: { ...info.settings, decode: { ...stage, rim: "repeated" } } };
}

/** The VAE decoder's graph for a picture that fits without tiles. */
export function decodedModel(
  { models, settings }: StageConfig<Models, DecodeSettings>,
  context: StageContext,
): Promise<Model> {
  const compute = computeType(context.engine.device, "vae", settings.vaeDtype);
  const run = { file: models.vae, compute, quantization: quantizationOf(settings) };
  return wholeVae("decoder to bytes", run, context);
}

interface Encoding {
  readonly format: PictureFormat;
  readonly quality?: number | undefined;
}

/** The bytes of a picture file, with its recipe, that of encodedInfo, if `isDescribed`. */
export function encodeDecoded(
  { image, info, isDescribed, exif }: DecodedPicture,
  encoding: Encoding,
): Promise<Uint8Array> {
  const description = isDescribed ? { description: recipeText(encodedInfo(info, encoding)) } : {};
  return encodePicture(image, { ...encoding, exif, ...description });
}

/** What made the file of a decoded picture: of one with losses its format and quality too, since they decide the pixels. */
export function encodedInfo(info: ArtifactInfo, { format, quality = LOSSY_QUALITY }: Encoding): ArtifactInfo {
  return format === "png" ? info : { ...info, settings: { ...info.settings, write: { format, quality } } };
}

/** What becomes of a decoded picture's transparency in a format that has none; undefined where nothing is lost. */
export function flattening(
  { image }: Pick<DecodedPicture, "image">,
  { format }: { readonly format: PictureFormat },
): string | undefined {
  return format === "jpeg" && channelsOf(image) === RGBA_CHANNELS
    ? "JPEG has no transparency: the picture is written over white"
    : undefined;
}

// ComfyUI's SaveImage truncates. A picture that is resized afterwards is rounded.
function quantizationOf({ match: wanted, keepSize }: DecodeSettings): Quantization {
  return wanted === undefined || keepSize ? "round" : "truncate";
}

// The identity of the VAE that encoded the pictures, if another one decodes.
function otherEncoder({ weights: { vae } }: ArtifactInfo, { identity }: RecordedFile): Record<string, string> {
  return vae === undefined || vae === identity ? {} : { "vae.encoder": vae };
}

async function decodeLatent(latent: Tensor<"float32">, run: VaeRun, context: StageContext): Promise<Image> {
  const { spatialRatio } = vaeConfig(numbersOf(run.file.checkpoint));
  const [height, width] = latent.shape.slice(2) as [number, number];
  const bytes = await withVae(
    "decoder to bytes",
    { run, pixels: [height * spatialRatio, width * spatialRatio] },
    context,
    (vae) => {
      context.emit({ kind: "activity", text: "decoding" });
      return vae(latent);
    },
  );
  const picture = fromBytes(bytes);
  refuseFlat(picture);
  // ComfyUI's SaveImage writes what was decoded.
  return run.quantization === "truncate" ? picture : withoutOpaque(picture);
}

function refuseOtherChannels(
  { tensors }: Artifact,
  { channels: wanted, name }: { readonly channels: number; readonly name: string },
): void {
  const channels = tensors["latent_tensor"]!.shape[1]!;
  if (channels === wanted) return;
  throw new QeditError(
    "QEDIT_E_ARTIFACT",
    `Cannot decode the samples: they have ${channels} channels, ${name} takes ${wanted}`,
    {
      hint: `Decode with the VAE that belongs to the transformer: ${param("vae", "FILE")}`,
    },
  );
}

/** Throws QEDIT_E_BAD_OUTPUT for a decoded picture of one colour, and for one that is transparent everywhere. */
export function refuseFlat(picture: Image): void {
  const { data } = picture;
  const stored = channelsOf(picture);
  const statistics = (channel: number) => pictureStatistics(data, { channel, channels: stored });
  if (stored === RGBA_CHANNELS && statistics(CHANNELS).max <= 1) {
    throw new QeditError("QEDIT_E_BAD_OUTPUT", "Decoded a picture that is transparent everywhere", {
      hint: `Model files that do not belong together do this: check ${param("vae")}, ${param("transformer")} and ${param("text_encoder")}`,
    });
  }
  const channels = Array.from({ length: CHANNELS }, (_, channel) => statistics(channel));
  if (!channels.every(({ flat }) => flat)) return;
  const colour = channels.map(({ min }) => (min / 255).toFixed(3)).join(", ");
  throw new QeditError("QEDIT_E_BAD_OUTPUT", `Decoded a picture of one flat colour (${colour} everywhere)`, {
    hint: `Model files that do not belong together do this: check ${param("vae")}, ${param("transformer")} and ${param("text_encoder")}`,
  });
}

// The size of picture 1 and the box of it that the target shows, as encode-image recorded them.
function originalPlace({ sizes }: ArtifactInfo): Place {
  const fault = sizesFault({ sizes }, MAX_PIXELS);
  if (fault !== undefined) throw unkeptSize(` by the record of the samples: ${fault}`);
  const { target, images } = sizes as { target?: { box: Box }; images?: readonly { source: Size }[] };
  if (target === undefined || images?.[0] === undefined) throw unkeptSize(": the samples do not say how large it was");
  return { source: images[0].source, box: target.box };
}

function unkeptSize(reason: string): QeditError {
  return new QeditError("QEDIT_E_ARTIFACT", `Cannot keep the size of picture 1${reason}`, {
    hint: `Leave ${param("keep_size")} out, or make the samples with \`qedit sample\``,
  });
}
