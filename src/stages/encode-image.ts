// The encode-image stage: one reference latent per picture, and the latent of picture 1 at the size of the result.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import { type Box, type FloatImage, type Image, type Size, toPlanes } from "../image/image.js";
import { describePlan } from "../image/resize/describe-plan.js";
import { applySteps } from "../image/resize/resize.js";
import { type LatentRoute, type PlanMode, planSizes, type SizePlan } from "../image/resize/size-plan.js";
import type { LatentStatistics } from "../models/vae-family.js";
import { vaeConfig, vaeStatistics } from "../models/vaes.js";
import { QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { refuseNonFinite } from "./finite.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { type VaeRun, withVae } from "./networks/open-vae.js";
import { inVaeType } from "./networks/vae-type.js";
import {
  announceProfiles,
  type Picture,
  pictureHashes,
  pictureNames,
  pictureProfiles,
  pixelsOf,
  sourceOf,
} from "./pictures.js";
import type { ArtifactStage, RecordedFile, StageContext, StageLengths } from "./stage.js";

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
  async check(pictures, { models: { vae }, settings }, device): Promise<StageLengths> {
    computeType(device, "vae", settings.vaeDtype);
    imageSizePlan(pictures, settings, cellOf(vae));
    return { "latent channels": vaeConfig(numbersOf(vae.checkpoint)).latentChannels };
  },
  announce({ inputs: { pictures }, models: { vae }, settings }, emit) {
    announceImages(pictures, { settings, cell: cellOf(vae) }, emit);
  },
  identity({ inputs: { pictures }, models: { vae }, settings }, device) {
    return {
      inputs: pictureHashes(pictures),
      names: { ...pictureNames(pictures), vae: vae.name },
      settings: recorded(pictures, settings, computedOn(device, computeType(device, "vae", settings.vaeDtype))),
      weights: { vae: vae.identity },
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { vae: file }, settings }, context): Promise<Artifact> {
    const plan = imageSizePlan(pictures, settings, cellOf(file));
    const { tile } = settings;
    const { result, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      encodeRoutes(pictures, { routes: routesOf(plan), run: { file, compute: type, tile }, context }, settings),
    );
    const vae = { identity: file.identity, name: file.name, statistics: statisticsOf(file) };
    const computed = computedOn(context.engine.device, compute);
    return { kind: "latents", tensors: result, info: latentsInfo(pictures, { plan, vae, computed }, settings) };
  },
};

/** The stage for pictures that have the sizes of the edit already: sides in multiples of the VAE's cell. */
export const encodeSizedImage: ArtifactStage<Inputs, Models, Pick<EncodeImageSettings, "vaeDtype" | "tile">> = {
  name: encodeImage.name,
  summary: "Encode pictures at their sizes with the VAE",
  version: 1,
  inputs: encodeImage.inputs,
  output: encodeImage.output,
  parameters: ["vaeDtype", "tile"],
  async check(_pictures, { models: { vae }, settings }, device): Promise<StageLengths> {
    computeType(device, "vae", settings.vaeDtype);
    return { "latent channels": vaeConfig(numbersOf(vae.checkpoint)).latentChannels };
  },
  announce() {},
  identity({ inputs: { pictures }, models: { vae }, settings }, device) {
    const compute = computeType(device, "vae", settings.vaeDtype);
    return {
      inputs: pictureHashes(pictures),
      names: { vae: vae.name },
      settings: { version: encodeSizedImage.version, sized: true, ...computedOn(device, compute) },
      weights: { vae: vae.identity },
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { vae: file }, settings }, context): Promise<Artifact> {
    const { tile } = settings;
    const images = pictures.map(({ image: { width, height } }) => ({ size: { width, height }, steps: [] }));
    const routes = { target: images[0]!, images };
    const { result, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      encodeRoutes(pictures, { routes, run: { file, compute: type, tile }, context }, { match: undefined }),
    );
    const computed = computedOn(context.engine.device, compute);
    return {
      kind: "latents",
      tensors: result,
      info: {
        settings: {
          encode_image: { version: encodeSizedImage.version, sized: true, ...computed },
          latent_statistics: statisticsOf(file),
        },
        sizes: { images: images.map(({ size: pixels }) => ({ reference: { size: pixels } })) },
        inputs: pictureHashes(pictures),
        weights: { vae: file.identity },
        names: { vae: file.name },
      },
    };
  },
};

/** The settings that decide sizes. */
export type SizeSettings = Omit<EncodeImageSettings, "vaeDtype" | "tile">;

/** The sizes of pictures on their way into the VAE, whose latents have a cell of so many pixels. Throws QEDIT_E_USAGE on sizes that cannot be. */
export function imageSizePlan(
  pictures: readonly Picture[],
  { match: tool, megapixels, resolutionSteps, size: wanted, region }: SizeSettings,
  cell: number,
): SizePlan {
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", { hint: "Name one: qedit encode-image photo.jpg" });
  return planSizes(pictures.map(sourceOf), {
    mode: (tool ?? "default") as PlanMode,
    cell,
    region,
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(resolutionSteps === undefined ? {} : { resolutionSteps }),
    ...(wanted === undefined ? {} : { size: wanted }),
  });
}

/** Emits the sizes of pictures, and what became of their colour profiles. */
export function announceImages(
  pictures: readonly Picture[],
  { settings, cell }: { readonly settings: SizeSettings; readonly cell: number },
  emit: StageContext["emit"],
): void {
  announceProfiles(pictures, settings, emit);
  emit({ kind: "plan", lines: describePlan(imageSizePlan(pictures, settings, cell), settings) });
}

function cellOf({ checkpoint }: ModelHandle): number {
  return vaeConfig(numbersOf(checkpoint)).spatialRatio;
}

function statisticsOf({ checkpoint, config }: ModelHandle): LatentStatistics {
  return vaeStatistics(numbersOf(checkpoint), config);
}

/** What becomes of a picture on its way into the VAE. */
export type Route = Pick<LatentRoute, "size" | "steps">;

/** What each picture is encoded as, and picture 1 once more at the size of the result. */
export interface Routes {
  readonly target: Route;
  readonly images: readonly Route[];
}

/** The routes of a plan. */
export function routesOf({ target, images }: SizePlan): Routes {
  return { target, images: images.map(({ reference }) => reference) };
}

interface Work {
  readonly routes: Routes;
  readonly run: VaeRun;
  readonly context: StageContext;
}

async function encodeRoutes(
  pictures: readonly Picture[],
  { routes, run, context }: Work,
  settings: Pick<EncodeImageSettings, "match">,
): Promise<Record<string, Tensor<"float32">>> {
  const sizes = [routes.target, ...routes.images].map(({ size: pixels }) => pixels);
  const most = (side: "height" | "width") => Math.max(...sizes.map((each) => each[side]));
  return withVae("encoder", { run, pixels: [most("height"), most("width")] }, context, (vae) =>
    latentsOfRoutes(pictures, routes, {
      context,
      async encode(picture, route) {
        const latent = await vae(toPlanes(routePixels(picture, route, settings)));
        refuseNonFinite(latent, `the latent of ${picture.name}`);
        return latent;
      },
    }),
  );
}

/** A picture's pixels at the end of a route. */
export function routePixels(
  picture: Picture,
  { steps }: Pick<Route, "steps">,
  settings: Pick<EncodeImageSettings, "match">,
): Image | FloatImage {
  return applySteps(pixelsOf(picture, settings), steps);
}

/** The tensors of `latents`: each route is encoded once. */
export async function latentsOfRoutes(
  pictures: readonly Picture[],
  routes: Routes,
  {
    encode: encodeRoute,
    context,
  }: {
    readonly encode: (picture: Picture, route: Route) => Promise<Tensor<"float32">>;
    readonly context: Pick<StageContext, "emit" | "signal">;
  },
): Promise<Record<string, Tensor<"float32">>> {
  const encoded = new Map<Route, Tensor<"float32">>();
  // The target often has the route of the first reference: encode it once.
  const encode = async (picture: Picture, route: Route) => {
    const latent = encoded.get(route) ?? (await encodeRoute(picture, route));
    encoded.set(route, latent);
    return latent;
  };
  const latents: Record<string, Tensor<"float32">> = { latent: await encode(pictures[0]!, routes.target) };
  for (const [index, picture] of pictures.entries()) {
    context.signal.throwIfAborted();
    context.emit({ kind: "activity", text: `encoding ${picture.name}` });
    latents[`reference_latents.${index}`] = await encode(picture, routes.images[index]!);
  }
  return latents;
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
