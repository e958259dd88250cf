// What stages compute with of a record: the VAE's statistics, and the size and place of picture 1. Records come from elsewhere too.
import { isObject } from "../std/guards.js";
import type { ArtifactInfo } from "./record.js";

/** Things done to picture 1 on its way into the models: it is cropped and resized. */
const MOST_STEPS = 8;
const METHODS = ["lanczos", "area", "bilinear", "bicubic", "nearest-exact"];

interface Size {
  readonly width: number;
  readonly height: number;
}

/** What is wrong with the VAE's statistics of latents, if they are there; undefined when nothing is. */
export function statisticsFault({ settings }: Pick<ArtifactInfo, "settings">, channels: number): string | undefined {
  const statistics = settings["latent_statistics"];
  const isList = (value: unknown, least: number) =>
    Array.isArray(value) &&
    value.length === channels &&
    value.every((each) => typeof each === "number" && Number.isFinite(each) && each > least);
  const isStatistics =
    isObject(statistics) && isList(statistics["mean"], Number.NEGATIVE_INFINITY) && isList(statistics["std"], 0);
  if (statistics === undefined || isStatistics) return undefined;
  return `its latent_statistics are no mean and std of ${channels} channels`;
}

/** What is wrong with the sizes of pictures of up to `most` pixels, and with the place of the target in picture 1; undefined when nothing is. */
export function sizesFault(
  { sizes: { target, images } }: Pick<ArtifactInfo, "sizes">,
  most: number,
): string | undefined {
  const sources = images === undefined ? [] : images;
  const isKnown = (each: unknown) => isObject(each) && isSize(each["source"], most);
  if (!Array.isArray(sources) || !sources.every(isKnown))
    return `its sizes have images without a source of up to ${most} pixels`;
  if (target === undefined) return undefined;
  const { box, steps = [] } = isObject(target) ? target : {};
  const source = (sources[0] as { source: Size } | undefined)?.source;
  if (!isBoxIn(box, source)) return "its sizes have a target without a box in picture 1";
  return areSteps(steps, source!, most) ? undefined : "its sizes have a target whose steps cannot be done to picture 1";
}

function areSteps(steps: unknown, source: Size, most: number): boolean {
  if (!Array.isArray(steps) || steps.length > MOST_STEPS) return false;
  let now = source;
  for (const step of steps as readonly unknown[]) {
    if (!isObject(step)) return false;
    const { kind, box, size, method } = step;
    if (kind === "crop" && isBoxIn(box, now)) now = box as Size;
    else if (kind === "resize" && isSize(size, most) && METHODS.includes(method as string)) now = size;
    else return false;
  }
  return true;
}

/** Whether a value is a box of whole pixels within a picture; undefined is no picture. */
export function isBoxIn(box: unknown, source: Size | undefined): boolean {
  if (source === undefined || !isObject(box) || !isSize(box)) return false;
  const { x, y, width, height } = box as Size & { readonly x?: unknown; readonly y?: unknown };
  return isWhole(x, 0) && isWhole(y, 0) && x + width <= source.width && y + height <= source.height;
}

function isSize(value: unknown, most = Number.POSITIVE_INFINITY): value is Size {
  if (!isObject(value)) return false;
  const { width, height } = value;
  return isWhole(width, 1) && isWhole(height, 1) && width * height <= most;
}

function isWhole(value: unknown, least: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least;
}
