// The encode-image stage: one reference latent per picture, and the latent of picture 1 at the size of the result.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import { type Box, type Size, toPlanes } from "../image/image.js";
import { describePlan } from "../image/resize/describe-plan.js";
import { applySteps } from "../image/resize/resize.js";
import { type LatentRoute, type PlanMode, planSizes, type SizePlan } from "../image/resize/size-plan.js";
import { type LatentStatistics, latentStatistics } from "../models/qwen-image/transformer-config.js";
import { vaeConfig } from "../models/qwen-image/vae.js";
import { QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { refuseNonFinite } from "./finite.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { type RunVae, type VaeRun, withVae } from "./networks/open-vae.js";
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
import type { ArtifactStage, StageContext, StageLengths } from "./stage.js";

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
    planOf(pictures, settings, vae);
    return { "latent channels": vaeConfig(numbersOf(vae.checkpoint)).latentChannels };
  },
  announce({ inputs: { pictures }, models: { vae }, settings }, emit) {
    announceProfiles(pictures, settings, emit);
    emit({ kind: "plan", lines: describePlan(planOf(pictures, settings, vae), settings) });
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
    const plan = planOf(pictures, settings, file);
    const { tile } = settings;
    const { result, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      encodeRoutes(pictures, { routes: routesOf(plan), run: { file, compute: type, tile }, context }, settings),
    );
    const work = { plan, run: { file, compute, tile }, context };
    return { kind: "latents", tensors: result, info: infoOf(pictures, work, settings) };
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

function planOf(
  pictures: readonly Picture[],
  { match: tool, megapixels, resolutionSteps, size: wanted, region }: EncodeImageSettings,
  { checkpoint }: ModelHandle,
): SizePlan {
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", { hint: "Name one: qedit encode-image photo.jpg" });
  return planSizes(pictures.map(sourceOf), {
    mode: (tool ?? "default") as PlanMode,
    cell: vaeConfig(numbersOf(checkpoint)).spatialRatio,
    region,
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(resolutionSteps === undefined ? {} : { resolutionSteps }),
    ...(wanted === undefined ? {} : { size: wanted }),
  });
}

interface Work {
  readonly plan: SizePlan;
  readonly run: VaeRun;
  readonly context: StageContext;
}

type Route = Pick<LatentRoute, "size" | "steps">;

/** What each picture is encoded as, and picture 1 once more at the size of the result. */
interface Routes {
  readonly target: Route;
  readonly images: readonly Route[];
}

function routesOf({ target, images }: SizePlan): Routes {
  return { target, images: images.map(({ reference }) => reference) };
}

async function encodeRoutes(
  pictures: readonly Picture[],
  { routes, run, context }: Omit<Work, "plan"> & { readonly routes: Routes },
  settings: Pick<EncodeImageSettings, "match">,
): Promise<Record<string, Tensor<"float32">>> {
  const sizes = [routes.target, ...routes.images].map(({ size: pixels }) => pixels);
  const most = (side: "height" | "width") => Math.max(...sizes.map((each) => each[side]));
  return withVae("encoder", { run, pixels: [most("height"), most("width")] }, context, async (vae) => {
    const encoded = new Map<Route, Tensor<"float32">>();
    // The target often has the route of the first reference: encode it once.
    const encode = async (picture: Picture, route: Route) => {
      const latent = encoded.get(route) ?? (await encodeRoute(picture, { vae, route, settings }));
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
  });
}

async function encodeRoute(
  picture: Picture,
  { vae, route, settings }: { vae: RunVae<"encoder">; route: Route; settings: Pick<EncodeImageSettings, "match"> },
): Promise<Tensor<"float32">> {
  const latent = await vae(toPlanes(applySteps(pixelsOf(picture, settings), route.steps)));
  refuseNonFinite(latent, `the latent of ${picture.name}`);
  return latent;
}

function recorded(pictures: readonly Picture[], settings: EncodeImageSettings, computed: object): object {
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

function statisticsOf({ config, checkpoint }: ModelHandle): LatentStatistics {
  return latentStatistics(config, vaeConfig(numbersOf(checkpoint)).latentChannels);
}

function infoOf(
  pictures: readonly Picture[],
  { plan, run: { file, compute }, context }: Work,
  settings: EncodeImageSettings,
): Artifact["info"] {
  const sizeOf = ({ size: pixels, box, latent, tokens }: LatentRoute) => ({ size: pixels, box, latent, tokens });
  return {
    settings: {
      encode_image: recorded(pictures, settings, computedOn(context.engine.device, compute)),
      latent_statistics: statisticsOf(file),
    },
    sizes: {
      target: { ...sizeOf(plan.target), steps: plan.target.steps },
      images: plan.images.map(({ source, reference }) => ({
        source,
        reference: sizeOf(reference),
        steps: reference.steps,
      })),
    },
    inputs: pictureHashes(pictures),
    weights: { vae: file.identity },
    names: { ...pictureNames(pictures), vae: file.name },
  };
}
