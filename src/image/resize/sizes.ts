// Picture sizes by arithmetic alone: ComfyUI's nodes, and qedit's own sizes that neither zoom nor drift. Python's round() throughout.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy_extras/nodes_qwen.py, nodes_flux.py, nodes_post_processing.py
import { roundHalfEven } from "../../std/rounding.js";
import type { Box, Size } from "../image.js";

/** Pixels in a megapixel, as ComfyUI counts. */
export const MEGAPIXEL = 1024 * 1024;

/** Area that the vision tower sees, pixels: the Plus node's 384². */
export const VISION_AREA = 384 * 384;

/** Pixels per latent cell and side of Qwen-Image-Edit's VAE. */
export const LATENT_CELL = 8;

/** Of TextEncodeQwenImage21: a token of the vision tower, which is two of the transformer's. */
const NODE_MULTIPLE = 32;

/** Vision pictures may have this many pixels; only extreme shapes come near (min_pixels, max_pixels of the published processor). */
const VISION_LIMITS = { min: 56 * 56, max: 28 * 28 * 16384 };

/** How much a wrong aspect (logarithm) weighs against a wrong area in bestSize: 1 % of aspect is worth 10 % of area. */
export const ASPECT_WEIGHT = 10;

// Widths and heights of one megapixel that FLUX Kontext was trained with; the mirror images complete the list.
const KONTEXT_UPRIGHT = [
  [672, 1568],
  [688, 1504],
  [720, 1456],
  [752, 1392],
  [800, 1328],
  [832, 1248],
  [880, 1184],
  [944, 1104],
  [1024, 1024],
] as const;

/** Size that ImageScaleToTotalPixels gives: aspect kept, about megapixels, sides multiples of its resolution_steps. */
export function totalPixelsSize(source: Size, megapixels: number, resolutionSteps = 1): Size {
  return scaled(source, megapixels * MEGAPIXEL, resolutionSteps);
}

/** Size that FluxKontextImageScale picks: nearest aspect of its list, the narrower of two equally near. */
export function kontextSize({ width, height }: Size): Size {
  const candidates = KONTEXT_UPRIGHT.flatMap(([short, long]) =>
    short === long
      ? [[short, long]]
      : [
          [short, long],
          [long, short],
        ],
  );
  const ranked = candidates.map(([w = 0, h = 0]) => ({
    distance: Math.abs(width / height - w / h),
    width: w,
    height: h,
  }));
  ranked.sort((a, b) => a.distance - b.distance || a.width - b.width);
  const best = ranked[0];
  if (best === undefined) throw new Error("internal: no Kontext sizes");
  return { width: best.width, height: best.height };
}

/** Size of the picture that TextEncodeQwenImageEditPlus gives the text encoder: 384² pixels, sides of any length. */
export function plusVisionSize(source: Size): Size {
  return scaled(source, VISION_AREA, 1);
}

/** Size at which TextEncodeQwenImageEditPlus encodes a reference: about a megapixel, sides multiples of 8. */
export function plusReferenceSize(source: Size): Size {
  return scaled(source, MEGAPIXEL, LATENT_CELL);
}

/** Size at which the vision tower reads a picture: sides multiples of factor (patch · merge), within the processor's limits. */
export function smartResize({ width, height }: Size, factor: number): Size {
  const nearest = { width: roundHalfEven(width / factor) * factor, height: roundHalfEven(height / factor) * factor };
  const area = nearest.width * nearest.height;
  if (area >= VISION_LIMITS.min && area <= VISION_LIMITS.max) return nearest;
  const limit = area > VISION_LIMITS.max ? VISION_LIMITS.max : VISION_LIMITS.min;
  const scale = Math.sqrt(limit / (width * height));
  const fit = area > VISION_LIMITS.max ? Math.floor : Math.ceil;
  return { width: fit((width * scale) / factor) * factor, height: fit((height * scale) / factor) * factor };
}

/** Vision size in one step: the sides that the nodes' two resizes end at, for any shape at least one factor long. */
export function visionSize({ width, height }: Size, factor: number): Size {
  const scale = Math.sqrt(VISION_AREA / (width * height));
  const side = (length: number) => Math.max(roundHalfEven((length * scale) / factor), 1) * factor;
  return { width: side(width), height: side(height) };
}

/**
 * Size at which TextEncodeQwenImage21 encodes a picture for the VAE and for the vision tower: about the square of resolution, sides multiples
 * of 32. https://github.com/Comfy-Org/ComfyUI/blob/v0.38.0/comfy_extras/nodes_qwen.py
 */
export function referenceNodeSize({ width, height }: Size, resolution: number): Size {
  const side = (length: number) => Math.max(roundHalfEven(length / NODE_MULTIPLE), 1) * NODE_MULTIPLE;
  const ratio = width / height;
  return { width: side(Math.sqrt(resolution ** 2 * ratio)), height: side(Math.sqrt(resolution ** 2 / ratio)) };
}

/** The size with sides in multiples of `multiple`, at least one, that best keeps the source's aspect near area (pixels). */
export function bestSize(source: Size, area: number, multiple: number): Size {
  const upright = source.height > source.width;
  const aspect = Math.max(source.width, source.height) / Math.min(source.width, source.height);
  let best = { long: multiple, short: multiple, cost: Infinity };
  const longest = Math.max(Math.sqrt(area * aspect) * 2, multiple);
  for (let long = multiple; long <= longest; long += multiple) {
    const below = Math.floor(long / aspect / multiple) * multiple;
    for (const short of [Math.max(below, multiple), below + multiple]) {
      const cost =
        ASPECT_WEIGHT * Math.abs(Math.log(long / short / aspect)) + Math.abs(Math.log((long * short) / area));
      if (cost < best.cost) best = { long, short, cost };
    }
  }
  return upright ? { width: best.short, height: best.long } : { width: best.long, height: best.short };
}

/** The largest centred part of source with the aspect of size, in whole source pixels: at most half a pixel off the exact aspect. */
export function centredBox(source: Size, size: Size): Box {
  const aspect = size.width / size.height;
  const width = Math.min(source.width, Math.max(roundHalfEven(source.height * aspect), 1));
  const height = Math.min(source.height, Math.max(roundHalfEven(source.width / aspect), 1));
  return centred(source, { width, height });
}

/** The part that common_upscale keeps with crop "center": an equal strip, rounded, off both ends of the longer side. */
export function upscaleBox(source: Size, size: Size): Box {
  const from = source.width / source.height;
  const to = size.width / size.height;
  const x = from > to ? roundHalfEven((source.width - source.width * (to / from)) / 2) : 0;
  const y = from < to ? roundHalfEven((source.height - source.height * (from / to)) / 2) : 0;
  return { x, y, width: source.width - 2 * x, height: source.height - 2 * y };
}

/** The part that ComfyUI's VAE encodes: sides cut to multiples of a latent cell, centred. */
export function encodedBox(source: Size, cell: number): Box {
  const cut = (length: number) => Math.floor(length / cell) * cell;
  return centred(source, { width: cut(source.width), height: cut(source.height) });
}

/** Latent cells of a picture of size pixels. */
export function latentSize({ width, height }: Size, cell: number): Size {
  return { width: Math.floor(width / cell), height: Math.floor(height / cell) };
}

/** Transformer tokens of a latent, of so many cells a side; what is left over at the end of a side is padded. */
export function latentTokens({ width, height }: Size, tokenCells: number): number {
  return Math.ceil(width / tokenCells) * Math.ceil(height / tokenCells);
}

function scaled({ width, height }: Size, area: number, multiple: number): Size {
  const scale = Math.sqrt(area / (width * height));
  const side = (length: number) => roundHalfEven((length * scale) / multiple) * multiple;
  return { width: side(width), height: side(height) };
}

function centred(outer: Size, inner: Size): Box {
  return { x: Math.floor((outer.width - inner.width) / 2), y: Math.floor((outer.height - inner.height) / 2), ...inner };
}
