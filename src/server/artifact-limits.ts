// What is wrong with an artifact that came from elsewhere: tensors that are larger than the server allows, and a record that stages cannot work with.
import type { Artifact } from "../artifacts/artifact.js";
import type { Size } from "../image/image.js";
import { isObject } from "../std/guards.js";
import type { ServerLimits } from "./limits.js";

/** Pixels along a side of a latent cell. */
const CELL = 8;
const MEGAPIXEL = 1024 ** 2;
/** Sizes are rounded to multiples of 16 pixels. */
const ROUNDING = 1.1;
/** Tokens of a prompt with its pictures; three pictures of an edit take about a thousand. */
const MOST_TOKENS = 16_384;
/** Things done to picture 1 on its way into the models: it is cropped and resized. */
const MOST_STEPS = 8;
const METHODS = ["lanczos", "area", "bilinear", "bicubic", "nearest-exact"];

/** Why a tensor of this shape, tokens or latent cells, is too large; undefined if it is not. */
export function shapeFault(shape: readonly number[], { megapixels }: ServerLimits): string | undefined {
  if (shape.length === 3)
    return shape[1]! > MOST_TOKENS ? `it has ${shape[1]} tokens, at most ${MOST_TOKENS} are allowed` : undefined;
  const [height, width] = shape.slice(-2) as [number, number];
  const pixels = (height * CELL * width * CELL) / MEGAPIXEL;
  if (pixels <= megapixels * ROUNDING) return undefined;
  return `it is of ${pixels.toFixed(2)} megapixels, at most ${megapixels} are allowed`;
}

/** What is wrong with what stages compute with, the VAE's statistics and the size and place of picture 1; undefined if nothing is. */
export function recordFault({ tensors, info }: Artifact, limits: ServerLimits): string | undefined {
  const statistics: unknown = info.settings["latent_statistics"];
  const channels = Object.values(tensors)[0]!.shape[1]!;
  const isList = (value: unknown, least: number) =>
    Array.isArray(value) &&
    value.length === channels &&
    value.every((each) => typeof each === "number" && Number.isFinite(each) && each > least);
  const isStatistics =
    isObject(statistics) && isList(statistics["mean"], Number.NEGATIVE_INFINITY) && isList(statistics["std"], 0);
  if (statistics !== undefined && !isStatistics && "latent" in tensors)
    return `its latent_statistics are no mean and std of ${channels} channels`;
  return sizesFault(info.sizes, limits);
}

function sizesFault(
  { target, images }: Readonly<Record<string, unknown>>,
  { pictureMegapixels }: ServerLimits,
): string | undefined {
  const most = pictureMegapixels * MEGAPIXEL;
  const sources = images === undefined ? [] : images;
  const isKnown = (each: unknown) => isObject(each) && isSize(each["source"], most);
  if (!Array.isArray(sources) || !sources.every(isKnown))
    return `its sizes have images without a source of up to ${pictureMegapixels} megapixels`;
  if (target === undefined) return undefined;
  const { box, steps = [] } = isObject(target) ? target : {};
  const source = (sources[0] as { source: Size } | undefined)?.source;
  if (source === undefined || !isBoxIn(box, source)) return "its sizes have a target without a box in picture 1";
  return areSteps(steps, source, most) ? undefined : "its sizes have a target whose steps cannot be done to picture 1";
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

function isSize(value: unknown, most = Number.POSITIVE_INFINITY): value is Size {
  if (!isObject(value)) return false;
  const { width, height } = value;
  return isWhole(width, 1) && isWhole(height, 1) && width * height <= most;
}

function isBoxIn(box: unknown, source: Size): boolean {
  if (!isObject(box) || !isSize(box)) return false;
  const { x, y, width, height } = box as Size & { readonly x?: unknown; readonly y?: unknown };
  return isWhole(x, 0) && isWhole(y, 0) && x + width <= source.width && y + height <= source.height;
}

function isWhole(value: unknown, least: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least;
}
