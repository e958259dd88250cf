// The encode-image stage: one reference latent per picture, and the latent of picture 1 at the size of the result.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import type { Box, Size } from "../image/image.js";
import { describePlan } from "../image/resize/describe-plan.js";
import { type PlanMode, planSizes, type SizePlan } from "../image/resize/size-plan.js";
import type { LatentRoute } from "../image/resize/size-routes.js";
import type { SizeRules } from "../image/resize/size-rules.js";
import type { LatentStatistics } from "../models/vae-family.js";
import { vaeOf, vaeStatistics } from "../models/vaes.js";
import { param, QeditError } from "../std/errors.js";
import { computedOn } from "./computed-on.js";
import { encodeRoutes, routesOf } from "./image-routes.js";
import { type ModelHandle, numbersOf, type SizedFile } from "./networks/model-handle.js";
import { inVaeType } from "./networks/vae-type.js";
import { announceProfiles, type Picture, pictureHashes, pictureNames, pictureProfiles, sourceOf } from "./pictures.js";
import type { ArtifactStage, RecordedFile, StageContext } from "./stage.js";

/** The parameters that encode-image reads. */
export interface EncodeImageSettings {
  readonly vaeDtype: string;
  /** Pixels along a side of the VAE's tiles; undefined: the memory plan decides. */
  readonly tile: number | undefined;
  /** Pixels of the result; undefined: the aspect of picture 1 at `megapixels`. */
  readonly size: Size | undefined;
  /** In units of 1024² pixels. */
  readonly megapixels: number | undefined;
  /** Of ComfyUI's ImageScaleToTotalPixels, with match `comfyui`; undefined: 1. */
  readonly resolutionSteps?: number | undefined;
  /** The tool whose sizes are reproduced: `comfyui`, `comfyui-kontext`; undefined: qedit's own. */
  readonly match: string | undefined;
  /** Whether the result will be resized to the pixels of picture 1, for messages; undefined where no result is made. */
  readonly keepSize?: boolean;
  /** The part of picture 1 that is edited; undefined: all of it. */
  readonly region?: Box | undefined;
}

interface Inputs {
  readonly pictures: readonly Picture[];
}
interface Models {
  readonly vae: ModelHandle;
}

/** Pictures → `latents`: `latent` (target size, from picture 1) and `reference_latents.N`, un-normalised. */
export const encodeImage: ArtifactStage<Inputs, Models, EncodeImageSettings> = {
  name: "encode-image",
  summary: "Encode pictures with the VAE",
  version: 2,
  inputs: { pictures: "the pictures, in the order the prompt counts them" },
  output: "latents",
  parameters: ["vaeDtype", "tile", "size", "megapixels", "resolutionSteps", "match"],
  async check(pictures, { models: { vae }, settings }, device): Promise<void> {
    computeType(device, "vae", settings.vaeDtype);
    imageSizePlan(pictures, settings, plannedVae(vae));
  },
  announce({ inputs: { pictures }, models: { vae }, settings }, emit) {
    announceImages(pictures, { settings, vae: plannedVae(vae) }, emit);
  },
  identity({ inputs: { pictures }, models: { vae }, settings }, device) {
    return {
      inputs: pictureHashes(pictures),
      names: { ...pictureNames(pictures), vae: vae.name },
      settings: recorded(pictures, settings, computedOn(device, computeType(device, "vae", settings.vaeDtype))),
      weights: { vae: vae.identity },
      states: vae.states,
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { vae: file }, settings }, context): Promise<Artifact> {
    const plan = imageSizePlan(pictures, settings, plannedVae(file));
    const { tile } = settings;
    const { result, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      encodeRoutes(pictures, { routes: routesOf(plan), run: { file, compute: type, tile }, context }, settings),
    );
    const vae = { identity: file.identity, name: file.name, statistics: statisticsOf(file) };
    const computed = computedOn(context.engine.device, compute);
    return { kind: "latents", tensors: result, info: latentsInfo(pictures, { plan, vae, computed }, settings) };
  },
};

/** The settings that decide sizes. */
export type SizeSettings = Omit<EncodeImageSettings, "vaeDtype" | "tile">;

/** What the sizes of pictures depend on of a VAE. */
export interface PlannedVae {
  /** Pixels along a side of a latent cell. */
  readonly cell: number;
  /** Those of Qwen-Image-Edit unless given. */
  readonly rules?: SizeRules | undefined;
  /** Whether there may be no picture, for its model makes pictures of a prompt alone; not so unless given. */
  readonly isGenerative?: boolean;
}

/** What sizes depend on of a VAE's file. */
function plannedVae({ checkpoint }: SizedFile): PlannedVae {
  const numbers = numbersOf(checkpoint);
  const { sizes: rules, isGenerative, config } = vaeOf(numbers);
  return { cell: config(numbers).spatialRatio, rules, isGenerative };
}

/** Most references of a model that sees its references: what Qwen-Image-2.1 was made for, and what TextEncodeQwenImage21 takes. */
const MOST_REFERENCES = { qedit: 10, comfyui: 16 };

function refuseTooMany(
  pictures: readonly Picture[],
  { match: tool, rules }: Pick<SizeSettings, "match"> & Pick<PlannedVae, "rules">,
): void {
  const most = tool === undefined ? MOST_REFERENCES.qedit : MOST_REFERENCES.comfyui;
  if (!rules?.seesReferences || pictures.length <= most) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot edit ${pictures.length} pictures at once: the model takes ${most} at most`,
    {
      hint:
        tool === undefined && pictures.length <= MOST_REFERENCES.comfyui
          ? `Leave some out, or take ComfyUI's sizes: ${param("match", "comfyui")}`
          : "Leave some out",
    },
  );
}

/** The sizes of pictures on their way into the VAE. Throws QEDIT_E_USAGE on sizes that cannot be. */
export function imageSizePlan(
  pictures: readonly Picture[],
  { match: tool, megapixels, resolutionSteps, size: wanted, region }: SizeSettings,
  { cell, rules, isGenerative = false }: PlannedVae,
): SizePlan {
  if (pictures.length === 0 && !isGenerative)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", { hint: "Name one: qedit encode-image photo.jpg" });
  refuseTooMany(pictures, { match: tool, rules });
  return planSizes(pictures.map(sourceOf), {
    mode: (tool ?? "default") as PlanMode,
    cell,
    ...(rules === undefined ? {} : { rules }),
    region,
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(resolutionSteps === undefined ? {} : { resolutionSteps }),
    ...(wanted === undefined ? {} : { size: wanted }),
  });
}

/** Emits the sizes of pictures, and what became of their colour profiles. */
export function announceImages(
  pictures: readonly Picture[],
  { settings, vae }: { readonly settings: SizeSettings; readonly vae: PlannedVae },
  emit: StageContext["emit"],
): void {
  announceProfiles(pictures, settings, emit);
  emit({ kind: "plan", lines: describePlan(imageSizePlan(pictures, settings, vae), settings) });
}

function statisticsOf({ checkpoint, config }: ModelHandle): LatentStatistics {
  return vaeStatistics(numbersOf(checkpoint), config);
}

function recorded(pictures: readonly Picture[], settings: SizeSettings, computed: object): object {
  const { match: tool, megapixels, resolutionSteps, size: wanted, region } = settings;
  return {
    version: encodeImage.version,
    match: tool ?? null,
    megapixels: megapixels ?? null,
    size: wanted ?? null,
    ...(resolutionSteps !== undefined && { resolution_steps: resolutionSteps }),
    ...(region && { region }),
    ...pictureProfiles(pictures, settings),
    ...computed,
  };
}

/** A VAE for the record of what it encoded. */
export interface RecordedVae extends RecordedFile {
  readonly statistics: LatentStatistics;
}

/** The record of `latents`; `computed` is what computedOn gives. */
export function latentsInfo(
  pictures: readonly Picture[],
  { plan, vae, computed }: { readonly plan: SizePlan; readonly vae: RecordedVae; readonly computed: object },
  settings: SizeSettings,
): Artifact["info"] {
  const sizeOf = ({ size: pixels, box, latent, tokens }: LatentRoute) => ({ size: pixels, box, latent, tokens });
  return {
    settings: { encode_image: recorded(pictures, settings, computed), latent_statistics: vae.statistics },
    sizes: {
      target: { ...sizeOf(plan.target), steps: plan.target.steps },
      images: plan.images.map(({ source, reference }) => ({
        source,
        reference: sizeOf(reference),
        steps: reference.steps,
      })),
    },
    inputs: pictureHashes(pictures),
    weights: { vae: vae.identity },
    names: { ...pictureNames(pictures), vae: vae.name },
  };
}
