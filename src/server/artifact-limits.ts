// What is wrong with an artifact that came from elsewhere: tensors that are larger than the server allows, and a record that stages cannot work with.
import type { Artifact } from "../artifacts/artifact.js";
import { sizesFault, statisticsFault } from "../artifacts/record-faults.js";
import { publishedLatents } from "../models/vaes.js";
import type { ServerLimits } from "./limits.js";

/** Pixels along a side of a latent cell of channels that no published VAE has: the most that any has. */
const LARGEST_CELL = 16;
const MEGAPIXEL = 1024 ** 2;
/** Sizes are rounded to multiples of 16 pixels. */
const ROUNDING = 1.1;
/** Tokens of a prompt with its pictures; three pictures of an edit take about a thousand. */
const MOST_TOKENS = 16_384;
/** Why a tensor of this shape, tokens or latent cells, is too large; undefined if it is not. */
export function shapeFault(shape: readonly number[], limits: ServerLimits): string | undefined {
  if (shape.length === 1) return tokensFault(shape[0]!);
  if (shape.length === 3) return tokensFault(shape[1]!);
  const [channels, height, width] = shape.slice(-3) as [number, number, number];
  const cell = publishedLatents(channels)?.cell ?? LARGEST_CELL;
  return pixelsFault(height * cell * width * cell, limits);
}

/** Why so many tokens are too many; undefined if they are not. */
export function tokensFault(count: number): string | undefined {
  return count > MOST_TOKENS ? `it has ${count} tokens, at most ${MOST_TOKENS} are allowed` : undefined;
}

/** Why a picture of so many pixels is too large; undefined if it is not. */
export function pixelsFault(pixels: number, { megapixels }: ServerLimits): string | undefined {
  const size = pixels / MEGAPIXEL;
  if (size <= megapixels * ROUNDING) return undefined;
  return `it is of ${size.toFixed(2)} megapixels, at most ${megapixels} are allowed`;
}

/** What is wrong with what stages compute with, the VAE's statistics and the size and place of picture 1; undefined if nothing is. */
export function recordFault({ tensors, info }: Artifact, { pictureMegapixels }: ServerLimits): string | undefined {
  const channels = Object.values(tensors)[0]!.shape[1]!;
  return (
    ("latent" in tensors ? statisticsFault(info, channels) : undefined) ??
    sizesFault(info, pictureMegapixels * MEGAPIXEL)
  );
}
