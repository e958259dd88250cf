// encode-image: pictures to latents, one per reference, and the latent that fixes the size of the result.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import type { DType } from "../graph/types.js";
import { toPlanes } from "../image/image.js";
import { applySteps } from "../image/resize/resize.js";
import { describePlan, type LatentRoute, type PlanMode, planSizes, type SizePlan } from "../image/resize/size-plan.js";
import { latentStatistics } from "../models/qwen-image/transformer-config.js";
import { vaeConfig } from "../models/qwen-image/vae.js";
import { QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { refuseNonFinite } from "./finite.js";
import { type NetworkFile, numbersOf, readNetworkFile } from "./networks/network-file.js";
import { type RunVae, type VaeRun, withVae } from "./networks/open-vae.js";
import { inVaeType } from "./networks/vae-type.js";
import { number, type SettingsOf, size } from "./option.js";
import { type Picture, pictureHashes, pictureNames, sourceOf } from "./pictures.js";
import { match, tile, vae, vaeDtype } from "./shared-options.js";
import { defineArtifactStage, type StageContext, type StageLengths } from "./stage.js";

const options = {
  vae,
  vaeDtype,
  tile,
  size: size({
    flags: "--size <WxH>",
    summary: "pixels of the result, multiples of 16",
    group: "Sizes",
    initialText: "the shape of picture 1 at --megapixels",
  }),
  megapixels: number(
    {
      flags: "--megapixels <count>",
      summary: "pixels of the result and of each reference, in units of 1024²",
      group: "Sizes",
      initialText: "1",
    },
    { minimum: 0, initial: undefined },
  ),
  match,
};

type Settings = SettingsOf<typeof options>;
type Inputs = { readonly pictures: readonly Picture[] };

/** Pictures → `latents`: `latent` (target size, from picture 1) and `reference_latents.N`, un-normalised. */
export const encodeImage = defineArtifactStage({
  name: "encode-image",
  summary: "Encode pictures with the VAE",
  version: 1,
  inputs: { pictures: "the pictures, in the order the prompt counts them" },
  output: "latents",
  options,
  async check(pictures: readonly Picture[], settings: Settings, device: Device): Promise<StageLengths> {
    computeType(device, "vae", settings.vaeDtype);
    const file = await vaeFile(settings);
    planOf(pictures, settings, file);
    return { "latent channels": vaeConfig(numbersOf(file.checkpoint)).latentChannels };
  },
  async announce({ pictures }: Inputs, settings: Settings, emit) {
    emit({ kind: "plan", lines: describePlan(planOf(pictures, settings, await vaeFile(settings))) });
  },
  async identity({ pictures }: Inputs, settings: Settings, device) {
    const { identity, name } = await vaeFile(settings);
    const names = { ...pictureNames(pictures), vae: name };
    return {
      inputs: pictureHashes(pictures),
      names,
      settings: recorded(settings, device, computeType(device, "vae", settings.vaeDtype)),
      weights: { vae: identity },
      device: deviceIdentity(device),
    };
  },
  async run({ pictures }: Inputs, settings: Settings, context: StageContext): Promise<Artifact> {
    const file = await vaeFile(settings);
    const plan = planOf(pictures, settings, file);
    const { result, compute } = await inVaeType(settings.vaeDtype, context, (type) =>
      encodeRoutes(pictures, { plan, run: { file, compute: type, tile: settings.tile }, context }),
    );
    return {
      kind: "latents",
      tensors: result,
      info: infoOf(pictures, { plan, run: { file, compute, tile: settings.tile }, context }, settings),
    };
  },
});

function planOf(
  pictures: readonly Picture[],
  { match: tool, megapixels, size: wanted }: Settings,
  { checkpoint }: NetworkFile,
): SizePlan {
  if (pictures.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "No picture was given", { hint: "Name one: qedit encode-image photo.jpg" });
  return planSizes(pictures.map(sourceOf), {
    mode: (tool ?? "default") as PlanMode,
    cell: vaeConfig(numbersOf(checkpoint)).spatialRatio,
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(wanted === undefined ? {} : { size: wanted }),
  });
}

function vaeFile({ vae: path }: Settings): Promise<NetworkFile> {
  return readNetworkFile(path, { name: "VAE", option: "--vae" });
}

interface Work {
  readonly plan: SizePlan;
  readonly run: VaeRun;
  readonly context: StageContext;
}

async function encodeRoutes(
  pictures: readonly Picture[],
  { plan, run, context }: Work,
): Promise<Record<string, Tensor<"float32">>> {
  const sizes = [plan.target, ...plan.images.map(({ reference }) => reference)].map(({ size: pixels }) => pixels);
  const most = (side: "height" | "width") => Math.max(...sizes.map((each) => each[side]));
  return withVae("encoder", { run, pixels: [most("height"), most("width")] }, context, async (vae) => {
    const encoded = new Map<LatentRoute, Tensor<"float32">>();
    // The target's route is often the first reference's own: then one run serves both.
    const encode = async (picture: Picture, route: LatentRoute) => {
      const latent = encoded.get(route) ?? (await encodeRoute(picture, { vae, route }));
      encoded.set(route, latent);
      return latent;
    };
    const latents: Record<string, Tensor<"float32">> = { latent: await encode(pictures[0]!, plan.target) };
    for (const [index, picture] of pictures.entries()) {
      context.signal.throwIfAborted();
      context.emit({ kind: "activity", text: `encoding ${picture.name}` });
      latents[`reference_latents.${index}`] = await encode(picture, plan.images[index]!.reference);
    }
    return latents;
  });
}

async function encodeRoute(
  { name, image }: Picture,
  { vae, route }: { vae: RunVae<"encoder">; route: LatentRoute },
): Promise<Tensor<"float32">> {
  const latent = await vae(toPlanes(applySteps(image, route.steps)));
  refuseNonFinite(latent, `the latent of ${name}`);
  return latent;
}

function recorded({ match: tool, megapixels, size: wanted }: Settings, device: Device, compute: DType): object {
  return {
    version: encodeImage.version,
    match: tool ?? null,
    megapixels: megapixels ?? null,
    size: wanted ?? null,
    ...computedOn(device, compute),
  };
}

function infoOf(
  pictures: readonly Picture[],
  { plan, run: { file, compute }, context }: Work,
  settings: Settings,
): Artifact["info"] {
  const sizeOf = ({ size: pixels, box, latent, tokens }: LatentRoute) => ({ size: pixels, box, latent, tokens });
  return {
    settings: {
      encode_image: recorded(settings, context.engine.device, compute),
      latent_statistics: latentStatistics(file.config, vaeConfig(numbersOf(file.checkpoint)).latentChannels),
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
