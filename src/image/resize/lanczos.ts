// Pillow's 8-bit Lanczos resampling, bit for bit: horizontal pass, then vertical, on integers with 22 fractional bits. (Pillow 13
// begins with the vertical pass where that shrinks much more; ComfyUI's results are from Pillow 11 and 12.)
// Algorithm: https://github.com/python-pillow/Pillow/blob/12.0.0/src/libImaging/Resample.c
import { channelsOf, type Image, RGBA_CHANNELS, type Size } from "../image.js";
import { type Band, resampledBands, type Taps } from "./lanczos-passes.js";
import { premultiplied, unpremultiplied } from "./premultiply.js";

// 32 bits less 8 of the pixel and 2 spare for the sum of the weights' magnitudes.
const PRECISION_BITS = 22;
const LOBES = 3;

/**
 * Resizes with antialiasing exactly as Pillow's resize(size, LANCZOS); the picture itself when the size is its own. Of one with alpha the
 * premultiplied colours are resized, so that what is transparent colours no edge.
 */
export function lanczos(image: Image, size: Size): Image {
  const { width, height } = size;
  if (width === image.width && height === image.height) return image;
  const rowBytes = width * channelsOf(image);
  const data = new Uint8Array(height * rowBytes);
  for (const band of lanczosBands(image, size)) data.set(band.data, band.y * rowBytes);
  return { ...image, width, height, data };
}

/** The same picture a few rows at a time from the top: [rows, width, channels], of use until the next ones are asked for. */
export function* lanczosBands(image: Image, { width, height }: Size): Generator<Band> {
  const horizontal = width === image.width ? undefined : taps(image.width, width);
  const vertical = height === image.height ? undefined : taps(image.height, height);
  const channels = channelsOf(image);
  if (horizontal === undefined && vertical === undefined) yield { y: 0, height, data: image.data };
  else if (channels !== RGBA_CHANNELS) yield* resampledBands({ ...image, channels }, { horizontal, vertical });
  else
    for (const { y, height: rows, data } of resampledBands(
      { ...premultiplied(image), channels },
      { horizontal, vertical },
    ))
      yield { y, height: rows, data: unpremultiplied({ width, height: rows, channels, data }).data };
}

function taps(from: number, to: number): Taps {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = LOBES * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), from) - start;
    const exact = Array.from({ length: count }, (_, tap) =>
      lanczosKernel((tap + start - center + 0.5) * (1 / filterScale)),
    );
    const sum = exact.reduce((total, weight) => total + weight, 0);
    exact.forEach((weight, tap) => (weights[i * stride + tap] = toFixedPoint(sum === 0 ? weight : weight / sum)));
    starts[i] = start;
    counts[i] = count;
  }
  return { starts, counts, weights, stride };
}

function lanczosKernel(t: number): number {
  return t >= -LOBES && t < LOBES ? sinc(t) * sinc(t / LOBES) : 0;
}

function sinc(t: number): number {
  return t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
}

/** Half away from zero, as a C cast after adding ±0.5. */
function toFixedPoint(weight: number): number {
  return Math.trunc(weight * 2 ** PRECISION_BITS + (weight < 0 ? -0.5 : 0.5));
}
