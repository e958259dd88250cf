// Previews of a picture while it is sampled: each cell of the latent becomes one colour, by a linear map.
// The map is fitted to the edit itself: the VAE's latent of picture 1, and picture 1 at one pixel a cell, are known before sampling begins. Directions
// that picture 1 does not have (of a grey photograph all colours) are taken from the factors that ComfyUI uses for this VAE's family
// (Wan21.latent_rgb_factors in comfy/latent_formats.py).
import { CHANNELS, type Image } from "../../image/image.js";
import { resize, resizeTo } from "../../image/resize/resize.js";
import type { LatentStatistics } from "../../models/qwen-image/transformer-config.js";
import { solve } from "../../sampling/linear-system.js";
import type { Tensor } from "../../std/tensor.js";

/** Red, green and blue of each latent channel, for colours of -1 to 1. */
const WAN_FACTORS = [
  [-0.1299, -0.1692, 0.2932],
  [0.0671, 0.0406, 0.0442],
  [0.3568, 0.2548, 0.1747],
  [0.0372, 0.2344, 0.142],
  [0.0313, 0.0189, -0.0328],
  [0.0296, -0.0956, -0.0665],
  [-0.3477, -0.4059, -0.2925],
  [0.0166, 0.1902, 0.1975],
  [-0.0412, 0.0267, -0.1364],
  [-0.1293, 0.074, 0.1636],
  [0.068, 0.3019, 0.1128],
  [0.0032, 0.0581, 0.0639],
  [-0.1251, 0.0927, 0.1699],
  [0.006, -0.0633, 0.0005],
  [0.3477, 0.2275, 0.295],
  [0.1984, 0.0913, 0.1861],
] as const;
const WAN_BIAS = [-0.1835, -0.0868, -0.336] as const;

/** Weight of ComfyUI's factors against what picture 1 says, as a share of its cells. */
const PRIOR = 1e-3;
/** Pixels of a preview along a side of a cell. */
const SCALE = 4;

/** Colours of 0..255 by channel: a row for each latent channel, and one for the constant. */
export type LatentToRgb = readonly (readonly number[])[];

/** Fits the map to a latent [1, channels, h, w] as the VAE gave it, and the picture that it is of. Ridge regression towards ComfyUI's factors. */
export function fitLatentToRgb(latent: Tensor<"float32">, statistics: LatentStatistics, picture: Image): LatentToRgb {
  const [, channels = 0, height = 0, width = 0] = latent.shape;
  const cells = height * width;
  const colours = resize(picture, { width, height }, "area");
  const scale = colours.data instanceof Float32Array ? 255 : 1;
  const rows = channels + 1;
  const value = (channel: number, cell: number) =>
    channel === channels
      ? 1
      : (latent.data[channel * cells + cell]! - statistics.mean[channel]!) / statistics.std[channel]!;
  const prior = priorOf(channels);
  const weight = PRIOR * cells;
  const matrix = Array.from({ length: rows }, () => new Array<number>(rows).fill(0));
  const right = Array.from({ length: CHANNELS }, (_, colour) => prior.map((row) => row[colour]! * weight));
  const x = new Float64Array(rows);
  for (let cell = 0; cell < cells; cell += 1) {
    for (let row = 0; row < rows; row += 1) x[row] = value(row, cell);
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < rows; column += 1) matrix[row]![column]! += x[row]! * x[column]!;
      for (let colour = 0; colour < CHANNELS; colour += 1)
        right[colour]![row]! += x[row]! * colours.data[cell * CHANNELS + colour]! * scale;
    }
  }
  for (let row = 0; row < rows; row += 1) matrix[row]![row]! += weight;
  const solutions = right.map((each) => solve(matrix, each, (number) => number));
  return Array.from({ length: rows }, (_, row) => solutions.map((solution) => solution[row]!));
}

/** A preview of a normalised latent [1, channels, h, w]: four by four pixels a cell. */
export function previewOf({ data, shape }: Tensor<"float32">, map: LatentToRgb): Image {
  const [, channels = 0, height = 0, width = 0] = shape;
  const cells = height * width;
  const colours = new Float32Array(cells * CHANNELS);
  for (let channel = 0; channel <= channels; channel += 1) {
    const [red = 0, green = 0, blue = 0] = map[channel]!;
    for (let cell = 0, at = 0; cell < cells; cell += 1, at += CHANNELS) {
      const value = channel === channels ? 1 : data[channel * cells + cell]!;
      colours[at]! += value * red;
      colours[at + 1]! += value * green;
      colours[at + 2]! += value * blue;
    }
  }
  // Rounds, and clamps to 0 to 255.
  const small = { width, height, data: Uint8Array.from(Uint8ClampedArray.from(colours)) };
  return resizeTo(small, { width: width * SCALE, height: height * SCALE });
}

// ComfyUI's factors for colours of 0 to 255; zeros for a latent of another number of channels.
function priorOf(channels: number): LatentToRgb {
  const isWan = channels === WAN_FACTORS.length;
  const factors = Array.from({ length: channels }, (_, channel) =>
    isWan ? WAN_FACTORS[channel]!.map((factor) => factor * 127.5) : [0, 0, 0],
  );
  return [...factors, isWan ? WAN_BIAS.map((bias) => (bias + 1) * 127.5) : [127.5, 127.5, 127.5]];
}
