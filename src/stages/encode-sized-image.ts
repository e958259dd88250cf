// The encode-image stage for pictures that have the sizes of the edit already, as exported VAEs take them.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import type { Size } from "../image/image.js";
import { vaeStatistics } from "../models/vaes.js";
import { computedOn } from "./computed-on.js";
import { encodeRoutes } from "./image-routes.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { inVaeType } from "./networks/vae-type.js";
import { type Picture, pictureHashes } from "./pictures.js";
import type { ArtifactStage } from "./stage.js";

interface Inputs {
  readonly pictures: readonly Picture[];
}
interface Models {
  readonly vae: ModelHandle;
}

interface SizedSettings {
  readonly vaeDtype: string;
  /** Pixels along a side of the VAE's tiles; undefined: the memory plan decides. */
  readonly tile: number | undefined;
  /** Pixels of the result where there is no picture. */
  readonly size: Size | undefined;
}

/** The stage for pictures that have the sizes of the edit already: sides in multiples of the VAE's cell. */
export const encodeSizedImage: ArtifactStage<Inputs, Models, SizedSettings> = {
  name: "encode-image",
  summary: "Encode pictures at their sizes with the VAE",
  version: 1,
  inputs: { pictures: "the pictures, in the order the prompt counts them" },
  output: "latents",
  parameters: ["vaeDtype", "tile"],
  async check(_pictures, { settings }, device): Promise<void> {
    computeType(device, "vae", settings.vaeDtype);
  },
  announce() {},
  identity({ inputs: { pictures }, models: { vae }, settings }, device) {
    const compute = computeType(device, "vae", settings.vaeDtype);
    return {
      inputs: pictureHashes(pictures),
      names: { vae: vae.name },
      settings: {
        ...{ version: encodeSizedImage.version, sized: true },
        ...(pictures.length === 0 && { size: settings.size }),
        ...computedOn(device, compute),
      },
      weights: { vae: vae.identity },
      states: vae.states,
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { vae: file }, settings }, context): Promise<Artifact> {
    const { tile, size } = settings;
    const images = pictures.map(({ image: { width, height } }) => ({ size: { width, height }, steps: [] }));
    const routes = { target: images[0] ?? { size: size!, steps: [] }, images };
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
          latent_statistics: vaeStatistics(numbersOf(file.checkpoint), file.config),
        },
        sizes: { images: images.map(({ size: pixels }) => ({ reference: { size: pixels } })) },
        inputs: pictureHashes(pictures),
        weights: { vae: file.identity },
        names: { vae: file.name },
      },
    };
  },
};
