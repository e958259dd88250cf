// Ways of pictures into the models' inputs: the steps, and the sizes that come out, in pixels, cells and tokens.
import type { Box, Size } from "../image.js";
import type { PatchConfig } from "../patches.js";
import type { Step } from "./resize.js";
import { latentSize, latentTokens } from "./sizes.js";

/** A way from the source's pixels to a model's input of size pixels. */
export interface Route {
  readonly size: Size;
  readonly steps: readonly Step[];
}

/** A route into the VAE: latent is in cells, tokens are the transformer's, box is the part of the source that remains. */
export interface LatentRoute extends Route {
  readonly box: Box;
  readonly latent: Size;
  readonly tokens: number;
}

/** A route into the vision tower: grid is in patches, tokens are those that enter the language model. */
export interface VisionRoute extends Route {
  readonly grid: Size;
  readonly tokens: number;
}

/** How pixels become latent cells, and cells tokens. */
export interface Grid {
  readonly cell: number;
  readonly tokenCells: number;
}

/** The route of a picture that has its size already. */
export function wholeRoute(size: Size, grid: Grid): LatentRoute {
  return latentRoute({ size, steps: [] }, { x: 0, y: 0, ...size }, grid);
}

/** A route into the VAE, of a part of the source. */
export function latentRoute(
  { size: { width, height }, steps }: Route,
  box: Box,
  { cell, tokenCells }: Grid,
): LatentRoute {
  const latent = latentSize({ width, height }, cell);
  return { size: { width, height }, steps, box, latent, tokens: latentTokens(latent, tokenCells) };
}

/** A route into the vision tower. */
export function visionRoute({ size, steps }: Route, { patch, merge }: PatchConfig): VisionRoute {
  const grid = { width: size.width / patch, height: size.height / patch };
  return { size, steps, grid, tokens: (grid.width * grid.height) / merge ** 2 };
}

/** The crop to a box; none to the whole source. */
export function cropSteps(source: Size, box: Box): Step[] {
  return box.width === source.width && box.height === source.height ? [] : [{ kind: "crop", box }];
}

/** The size that steps end at. */
export function sizeAfter(source: Size, steps: readonly Step[]): Size {
  const last = steps.at(-1);
  if (last === undefined) return source;
  return last.kind === "crop" ? last.box : last.size;
}

/** The part of the source that a crop in front of all resizes leaves. */
export function boxAfter({ width, height }: Size, steps: readonly Step[]): Box {
  const [step] = steps;
  return step?.kind === "crop" ? step.box : { x: 0, y: 0, width, height };
}
