// Resizing as ComfyUI's common_upscale does it: torch's F.interpolate without antialiasing in float32, and Pillow's 8-bit Lanczos.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy/utils.py (common_upscale, lanczos)
import {
  type Box,
  CHANNELS,
  channelsOf,
  crop,
  type FloatImage,
  type Image,
  type Size,
  toBytes,
  toFloat,
} from "../image.js";
import { lanczos, lanczosBands } from "./lanczos.js";

/** Names of the resize methods, as in ComfyUI's nodes. Only lanczos and area average over what they shrink. */
export type ResizeMethod = "lanczos" | "area" | "bilinear" | "bicubic" | "nearest-exact";

/** One thing done to a picture on its way into a model. Plain data, so that recipes can hold it. */
export type Step =
  | { readonly kind: "crop"; readonly box: Box }
  | { readonly kind: "resize"; readonly size: Size; readonly method: ResizeMethod };

/** Does the steps in order. Bytes stay bytes for crop and lanczos, so an untouched picture is only divided by 255. */
export function applySteps(image: Image | FloatImage, steps: readonly Step[]): FloatImage {
  return toFloat(stepped(image, steps));
}

/** The same steps of a picture in bytes, whose floats are rounded at the end: a picture that no step makes floats of stays bytes throughout. */
export function applyStepsInBytes(image: Image, steps: readonly Step[]): Image {
  return toBytes(stepped(image, steps), "round");
}

function stepped(image: Image | FloatImage, steps: readonly Step[]): Image | FloatImage {
  return steps.reduce(
    (current, step) => (step.kind === "crop" ? crop(current, step.box) : resize(current, step.size, step.method)),
    image,
  );
}

/**
 * Resizes a picture, aspect free. lanczos works on 8 bits (floats are truncated to bytes first) and gives bytes; it equals Pillow bit for
 * bit, of pictures with alpha too. The others give floats and equal torch.nn.functional.interpolate to float32 rounding, and take no alpha.
 * Even to its own size, lanczos makes bytes.
 */
export function resize(image: Image | FloatImage, size: Size, method: ResizeMethod): Image | FloatImage {
  if (method === "lanczos") return lanczos(toBytes(image, "truncate"), size);
  if (size.width === image.width && size.height === image.height) return image;
  if (channelsOf(image) !== CHANNELS) throw new Error(`internal: ${method} of a picture with alpha`);
  const source = toFloat(image);
  return method === "area" ? areaMean(source, size) : interpolate(source, size, AXES[method]);
}

/**
 * Brings a finished picture to size (pixels): laid over box, the part of the original that the models saw, with its edge pixels
 * repeated outside. So nothing is stretched and the result lies exactly over the original.
 */
export function resizeTo(picture: Image | FloatImage, size: Size, box: Box = { x: 0, y: 0, ...size }): Image {
  const source = toBytes(picture, "round");
  if (box.width === size.width && box.height === size.height) return lanczos(source, box);
  const channels = channelsOf(source);
  const rowBytes = size.width * channels;
  const data = new Uint8Array(size.height * rowBytes);
  for (const band of lanczosBands(source, box)) {
    for (let i = 0; i < band.height; i++) {
      const row = band.data.subarray(i * box.width * channels, (i + 1) * box.width * channels);
      const to = (box.y + band.y + i) * rowBytes;
      data.set(row, to + box.x * channels);
      for (let at = 0; at < box.x * channels; at++) data[to + at] = row[at % channels]!;
      const end = (box.x + box.width) * channels;
      for (let at = end; at < rowBytes; at++) data[to + at] = row[row.length - channels + (at % channels)]!;
    }
  }
  const repeat = (y: number, from: number) => data.copyWithin(y * rowBytes, from * rowBytes, (from + 1) * rowBytes);
  for (let y = 0; y < box.y; y++) repeat(y, box.y);
  for (let y = box.y + box.height; y < size.height; y++) repeat(y, box.y + box.height - 1);
  return { ...source, width: size.width, height: size.height, data };
}

/** Plain mean of the rectangle of inputs that each output touches (adaptive average pooling), also when enlarging. */
function areaMean(image: FloatImage, size: Size): FloatImage {
  const data = new Float32Array(size.width * size.height * CHANNELS);
  const [left, right] = pooledRanges(image.width, size.width);
  const [top, bottom] = pooledRanges(image.height, size.height);
  for (let y = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let row = top[y] as number; row < (bottom[y] as number); row++) {
        const end = (row * image.width + (right[x] as number)) * CHANNELS;
        for (let from = (row * image.width + (left[x] as number)) * CHANNELS; from < end; from += 3) {
          red += image.data[from] as number;
          green += image.data[from + 1] as number;
          blue += image.data[from + 2] as number;
        }
      }
      const count = ((right[x] as number) - (left[x] as number)) * ((bottom[y] as number) - (top[y] as number));
      const target = (y * size.width + x) * CHANNELS;
      data[target] = red / count;
      data[target + 1] = green / count;
      data[target + 2] = blue / count;
    }
  }
  return { width: size.width, height: size.height, data };
}

function pooledRanges(from: number, to: number): [Int32Array, Int32Array] {
  const starts = Int32Array.from({ length: to }, (_, i) => Math.floor((i * from) / to));
  const ends = Int32Array.from({ length: to }, (_, i) => Math.ceil(((i + 1) * from) / to));
  return [starts, ends];
}

/** The inputs (clamped to the border) and weights of every output along one axis: taps of each output lie side by side. */
interface Axis {
  readonly taps: number;
  readonly indexes: Int32Array;
  readonly weights: Float32Array;
}

// torch rounds a source position to float32 once: after subtracting the half (a fused multiply-add) where one is subtracted, else
// after the multiplication. Rounding elsewhere picks another pixel now and then.
const AXES: Record<Exclude<ResizeMethod, "lanczos" | "area">, (from: number, to: number) => Axis> = {
  bilinear: (from, to) =>
    axis([from, to], 2, (position) => {
      const source = Math.max(Math.fround(position - 0.5), 0);
      const fraction = Math.fround(source - Math.floor(source));
      return [Math.floor(source), [1 - fraction, fraction]];
    }),
  bicubic: (from, to) =>
    axis([from, to], 4, (position) => {
      const source = Math.fround(position - 0.5);
      return [Math.floor(source) - 1, keysWeights(Math.fround(source - Math.floor(source)))];
    }),
  "nearest-exact": (from, to) => axis([from, to], 1, (position) => [Math.floor(Math.fround(position)), [1]]),
};

/** place gives, for an output's centre measured in input pixels, its first input and its weights. */
function axis([from, to]: [number, number], taps: number, place: (position: number) => [number, number[]]): Axis {
  const indexes = new Int32Array(to * taps);
  const weights = new Float32Array(to * taps);
  const scale = Math.fround(from / to);
  for (let i = 0; i < to; i++) {
    const [first, values] = place((i + 0.5) * scale);
    values.forEach((weight, tap) => {
      indexes[i * taps + tap] = clamp(first + tap, from);
      weights[i * taps + tap] = weight;
    });
  }
  return { taps, indexes, weights };
}

/** Keys' cubic convolution with torch's A = -0.75, at distances 1 + t, t, 1 - t and 2 - t. */
function keysWeights(t: number): number[] {
  const a = -0.75;
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}

function interpolate(image: FloatImage, size: Size, axisOf: (from: number, to: number) => Axis): FloatImage {
  const columns = axisOf(image.width, size.width);
  const rows = axisOf(image.height, size.height);
  const data = new Float32Array(size.width * size.height * CHANNELS);
  for (let y = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let i = y * rows.taps; i < (y + 1) * rows.taps; i++) {
        for (let j = x * columns.taps; j < (x + 1) * columns.taps; j++) {
          const weight = (rows.weights[i] as number) * (columns.weights[j] as number);
          const from = ((rows.indexes[i] as number) * image.width + (columns.indexes[j] as number)) * CHANNELS;
          red += weight * (image.data[from] as number);
          green += weight * (image.data[from + 1] as number);
          blue += weight * (image.data[from + 2] as number);
        }
      }
      const target = (y * size.width + x) * CHANNELS;
      data[target] = red;
      data[target + 1] = green;
      data[target + 2] = blue;
    }
  }
  return { width: size.width, height: size.height, data };
}

function clamp(index: number, length: number): number {
  return Math.min(Math.max(index, 0), length - 1);
}
