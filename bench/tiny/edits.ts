// The edits of fixtures/tiny-model/edits.json as exact functions on pixels 0..1: the twin of fixtures/tiny-model/edits.py.
import { readFileSync } from "node:fs";
import { CHANNELS, type FloatImage } from "../../src/image/image.js";

/** An edit: a function on pixels, and its prompts. */
export interface Edit {
  readonly name: string;
  /** Number of input pictures. */
  readonly pictures: 1 | 2;
  readonly kind: keyof typeof KINDS;
  /** A prompt that was not used in training. */
  readonly held_out: string;
  readonly wordings: readonly string[];
  readonly matrix: readonly (readonly number[])[];
  readonly offset: readonly number[];
  readonly sigma: number;
  readonly fine: number;
  readonly coarse: number;
  readonly amount: number;
  readonly levels: number;
}

type Kind = (image: FloatImage, edit: Edit, other: FloatImage) => FloatImage;

/** Gaussians are truncated at this many standard deviations. */
const REACH = 3;
/** Least deviation of a colour that "match colours" divides by, and most that it multiplies by. */
const LEAST_DEVIATION = 0.02;
const MOST_GAIN = 4;
/** Pixels along a side of a transformer token: pictures of different sizes are centred on each other in whole tokens, as in the model. */
const TOKEN = 16;

const KINDS = {
  keep: (image) => image,
  affine: (image, { matrix, offset }) =>
    mapped(image, (data, i, channel) => {
      const row = matrix[channel]!;
      return (
        row[0]! * data[i - channel]! +
        row[1]! * data[i - channel + 1]! +
        row[2]! * data[i - channel + 2]! +
        offset[channel]!
      );
    }),
  blur: (image, { sigma }) => blurred(image, sigma),
  sharpen: sharpened,
  posterize: (image, { sigma, levels }) =>
    mapped(blurred(image, sigma), (data, i) => Math.floor(data[i]! * (levels - 1) + 0.5) / (levels - 1)),
  mirror: (image) => moved(image, (y, x) => [y, image.width - 1 - x]),
  "upside down": (image) => moved(image, (y, x) => [image.height - 1 - y, x]),
  "match colours": (image, _, other) => matched(image, other),
  blend: (image, _, other) => {
    const laid = centred(image, other).data;
    return mapped(image, (data, i) => (data[i]! + laid[i]!) / 2);
  },
  "right half": (image, _, other) => rightHalf(image, other),
} as const satisfies Record<string, Kind>;

/** Every edit that the tiny model is trained for. */
export const EDITS: readonly Edit[] = (
  JSON.parse(readFileSync(new URL("../../fixtures/tiny-model/edits.json", import.meta.url), "utf8")) as {
    edits: Edit[];
  }
).edits;

/** The exact result of an edit, clipped to 0..1; `other` is the second picture where the edit takes one. */
export function applyEdit(edit: Edit, image: FloatImage, other: FloatImage = image): FloatImage {
  const result = (KINDS[edit.kind] as Kind)(image, edit, other);
  return mapped(result, (data, i) => Math.min(Math.max(data[i]!, 0), 1));
}

function mapped(image: FloatImage, value: (data: Float32Array, index: number, channel: number) => number): FloatImage {
  const data = new Float32Array(image.data.length);
  for (let i = 0; i < data.length; i++) data[i] = value(image.data, i, i % CHANNELS);
  return { ...image, data };
}

function moved(image: FloatImage, from: (y: number, x: number) => readonly [number, number]): FloatImage {
  const data = new Float32Array(image.data.length);
  for (let y = 0, at = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      const [row, column] = from(y, x);
      for (let channel = 0; channel < CHANNELS; channel++)
        data[at++] = image.data[(row * image.width + column) * CHANNELS + channel]!;
    }
  }
  return { ...image, data };
}

// Border pixels are repeated outside the picture.
function blurred(image: FloatImage, sigma: number): FloatImage {
  const reach = Math.ceil(REACH * sigma);
  const raw = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma * sigma)));
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const weights = raw.map((weight) => weight / total);
  const across = pass(image, weights, {
    length: image.width,
    step: CHANNELS,
    place: (y, x) => [y * image.width * CHANNELS, x],
  });
  return pass(across, weights, {
    length: image.height,
    step: image.width * CHANNELS,
    place: (y, x) => [x * CHANNELS, y],
  });
}

interface Line {
  readonly length: number;
  readonly step: number;
  /** Start of a pixel's line in the data, and the pixel's index on it. */
  readonly place: (y: number, x: number) => readonly [number, number];
}

function pass(image: FloatImage, weights: readonly number[], { length, step, place }: Line): FloatImage {
  const data = new Float32Array(image.data.length);
  const reach = (weights.length - 1) / 2;
  for (let y = 0, at = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      const [start, number] = place(y, x);
      for (let channel = 0; channel < CHANNELS; channel++) {
        let sum = 0;
        for (let k = -reach; k <= reach; k++) {
          const neighbour = Math.min(Math.max(number + k, 0), length - 1);
          sum += weights[k + reach]! * image.data[start + neighbour * step + channel]!;
        }
        data[at++] = sum;
      }
    }
  }
  return { ...image, data };
}

// Amplifies the difference of two blurs: the VAE would lose finer detail.
function sharpened(image: FloatImage, { fine, coarse, amount }: Edit): FloatImage {
  const [near, far] = [blurred(image, fine).data, blurred(image, coarse).data];
  return mapped(image, (data, i) => data[i]! + amount * (near[i]! - far[i]!));
}

function matched(image: FloatImage, other: FloatImage): FloatImage {
  const [from, to] = [colours(image), colours(other)];
  return mapped(image, (data, i, channel) => {
    const gain = Math.min(to[channel]!.deviation / Math.max(from[channel]!.deviation, LEAST_DEVIATION), MOST_GAIN);
    return (data[i]! - from[channel]!.mean) * gain + to[channel]!.mean;
  });
}

function colours({ data }: FloatImage): { mean: number; deviation: number }[] {
  const count = data.length / CHANNELS;
  return Array.from({ length: CHANNELS }, (_, channel) => {
    let [sum, squares] = [0, 0];
    for (let i = channel; i < data.length; i += CHANNELS) sum += data[i]!;
    const mean = sum / count;
    for (let i = channel; i < data.length; i += CHANNELS) squares += (data[i]! - mean) ** 2;
    return { mean, deviation: Math.sqrt(squares / count) };
  });
}

// `other` laid over `image`, centre on centre in whole tokens.
function centred(image: FloatImage, other: FloatImage): FloatImage {
  const down = shift(image.height, other.height);
  const right = shift(image.width, other.width);
  const data = image.data.slice();
  for (let y = Math.max(down, 0); y < Math.min(image.height, other.height + down); y++) {
    const first = Math.max(right, 0);
    const end = Math.min(image.width, other.width + right);
    const from = ((y - down) * other.width + first - right) * CHANNELS;
    data.set(other.data.subarray(from, from + (end - first) * CHANNELS), (y * image.width + first) * CHANNELS);
  }
  return { ...image, data };
}

function shift(side: number, other: number): number {
  const middle = (length: number) => Math.floor(Math.floor(length / TOKEN) / 2);
  return (middle(side) - middle(other)) * TOKEN;
}

function rightHalf(image: FloatImage, other: FloatImage): FloatImage {
  const laid = centred(image, other).data;
  const middle = Math.floor(Math.floor(image.width / TOKEN) / 2) * TOKEN;
  return mapped(image, (data, i) => (Math.floor(i / CHANNELS) % image.width < middle ? data[i]! : laid[i]!));
}
