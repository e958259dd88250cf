// The ways of pictures into the VAE, and the latents at their ends.
import { CHANNELS, type FloatImage, type Image, toPlanes } from "../image/image.js";
import { applySteps } from "../image/resize/resize.js";
import type { SizePlan } from "../image/resize/size-plan.js";
import type { LatentRoute } from "../image/resize/size-routes.js";
import type { VaeConfig } from "../models/vae-family.js";
import { vaeConfig } from "../models/vaes.js";
import { float32, type Tensor } from "../std/tensor.js";
import { refuseNonFinite } from "./finite.js";
import { numbersOf } from "./networks/model-handle.js";
import { type VaeRun, withVae } from "./networks/open-vae.js";
import { type Picture, pixelsOf, pixelsWithAlpha } from "./pictures.js";
import type { StageContext } from "./stage.js";

/** What decides the pixels of a picture, see pixelsOf. */
interface PixelSettings {
  readonly match: string | undefined;
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

/** The tensors of `latents`, and an empty latent where there is no picture. */
export async function encodeRoutes(
  pictures: readonly Picture[],
  { routes, run, context }: Work,
  settings: PixelSettings,
): Promise<Record<string, Tensor<"float32">>> {
  const { latentChannels, imageChannels, spatialRatio } = vaeConfig(numbersOf(run.file.checkpoint));
  if (pictures.length === 0) return { latent: emptyLatent(routes.target, { latentChannels, spatialRatio }) };
  const sizes = [routes.target, ...routes.images].map(({ size: pixels }) => pixels);
  const most = (side: "height" | "width") => Math.max(...sizes.map((each) => each[side]));
  return withVae("encoder", { run, pixels: [most("height"), most("width")] }, context, (vae) =>
    latentsOfRoutes(pictures, routes, {
      context,
      async encode(picture, route) {
        const latent = await vae(toPlanes(routePixels(picture, route, { ...settings, channels: imageChannels })));
        refuseNonFinite(latent, `the latent of ${picture.name}`);
        return latent;
      },
    }),
  );
}

// Of a size alone, without a picture: what ComfyUI's empty latents are.
function emptyLatent(
  { size: { width, height } }: Route,
  { latentChannels, spatialRatio }: Pick<VaeConfig, "latentChannels" | "spatialRatio">,
): Tensor<"float32"> {
  return float32([1, latentChannels, height / spatialRatio, width / spatialRatio]);
}

/** A picture's pixels at the end of a route, in as many channels as the VAE takes: 3, or 4 with transparency, opaque if it has none. */
export function routePixels(
  picture: Picture,
  { steps }: Pick<Route, "steps">,
  { match, channels = CHANNELS }: PixelSettings & { readonly channels?: number },
): Image | FloatImage {
  const pixels = channels === CHANNELS ? pixelsOf(picture, { match }) : pixelsWithAlpha(picture, { match });
  return applySteps(pixels, steps);
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
