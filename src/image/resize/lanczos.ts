// Pillow's 8-bit Lanczos resampling, bit for bit: horizontal pass, then vertical, on integers with 22 fractional bits. (Pillow 13
// begins with the vertical pass where that shrinks much more; ComfyUI's results are from Pillow 11 and 12.)
// Algorithm: https://github.com/python-pillow/Pillow/blob/12.0.0/src/libImaging/Resample.c
import { channelsOf, type Image, RGBA_CHANNELS, type Size } from "../image.js";
import { premultiplied, unpremultiplied } from "./premultiply.js";

// 32 bits less 8 of the pixel and 2 spare for the sum of the weights' magnitudes.
const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);
const LOBES = 3;

/** For each output position: the first input position and the integer weights from there on. */
interface Taps {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly weights: Int32Array;
  /** Distance between the weights of neighbouring outputs. */
  readonly stride: number;
}

/**
 * Resizes with antialiasing exactly as Pillow's resize(size, LANCZOS); the picture itself when the size is its own. Of one with alpha the
 * premultiplied colours are resized, so that what is transparent colours no edge.
 */
export function lanczos(image: Image, size: Size): Image {
  const isOwnSize = size.width === image.width && size.height === image.height;
  if (channelsOf(image) !== RGBA_CHANNELS || isOwnSize) return resample(image, size);
  return unpremultiplied(resample(premultiplied(image), size));
}

function resample(image: Image, size: Size): Image {
  const vertical = size.height === image.height ? undefined : taps(image.height, size.height);
  const wide = size.width === image.width ? image : horizontalPass(image, size.width, vertical);
  return vertical === undefined ? wide : verticalPass(wide, size.height, vertical);
}

function horizontalPass(image: Image, width: number, vertical: Taps | undefined): Image {
  const { starts, counts, weights, stride } = taps(image.width, width);
  const pixels = image.data;
  const channels = channelsOf(image);
  const hasAlpha = channels === RGBA_CHANNELS;
  const data = new Uint8Array(width * image.height * channels);
  // Rows that the vertical pass will not read need not be made.
  const [firstRow, endRow] = vertical === undefined ? [0, image.height] : rowsRead(vertical);
  for (let row = firstRow; row < endRow; row++) {
    const source = row * image.width * channels;
    let target = row * width * channels;
    for (let column = 0; column < width; column++) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let alpha = HALF;
      let from = source + (starts[column] as number) * channels;
      const end = column * stride + (counts[column] as number);
      for (let tap = column * stride; tap < end; tap++) {
        const weight = weights[tap] as number;
        red = (red + Math.imul(weight, pixels[from] as number)) | 0;
        green = (green + Math.imul(weight, pixels[from + 1] as number)) | 0;
        blue = (blue + Math.imul(weight, pixels[from + 2] as number)) | 0;
        if (hasAlpha) alpha = (alpha + Math.imul(weight, pixels[from + 3] as number)) | 0;
        from += channels;
      }
      data[target++] = clipToByte(red);
      data[target++] = clipToByte(green);
      data[target++] = clipToByte(blue);
      if (hasAlpha) data[target++] = clipToByte(alpha);
    }
  }
  return { ...image, width, data };
}

function verticalPass(image: Image, height: number, { starts, counts, weights, stride }: Taps): Image {
  const rowLength = image.width * channelsOf(image);
  const data = new Uint8Array(height * rowLength);
  const sums = new Int32Array(rowLength);
  const pixels = image.data;
  for (let row = 0; row < height; row++) {
    sums.fill(HALF);
    for (let tap = 0; tap < (counts[row] as number); tap++) {
      const weight = weights[row * stride + tap] as number;
      const from = ((starts[row] as number) + tap) * rowLength;
      for (let i = 0; i < rowLength; i++) sums[i] = (sums[i] as number) + Math.imul(weight, pixels[from + i] as number);
    }
    for (let i = 0; i < rowLength; i++) data[row * rowLength + i] = clipToByte(sums[i] as number);
  }
  return { ...image, height, data };
}

function rowsRead({ starts, counts }: Taps): [number, number] {
  const last = starts.length - 1;
  return [starts[0] as number, (starts[last] as number) + (counts[last] as number)];
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

function clipToByte(sum: number): number {
  const value = sum >> PRECISION_BITS;
  return value < 0 ? 0 : Math.min(value, 255);
}
