// Previews of a picture while it is sampled: each cell of the latent becomes one colour, by a linear map.
// The map is fitted to the edit itself: the VAE's latent of picture 1, and picture 1 at one pixel a cell, are known before sampling begins. Directions
// that picture 1 does not have (of a grey photograph all colours) are taken from the factors that ComfyUI uses for this VAE's family
// (latent_rgb_factors in comfy/latent_formats.py).
import { CHANNELS, type Image } from "../../image/image.js";
import { resize, resizeTo } from "../../image/resize/resize.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { publishedLatents } from "../../models/vaes.js";
import { solve } from "../../sampling/linear-system.js";
import type { Tensor } from "../../std/tensor.js";

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
  const prior = publishedLatentToRgb(channels);
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

/** The map by ComfyUI's factors alone, where there is no picture to fit it to; grey for latents of a number of channels that was not published. */
export function publishedLatentToRgb(channels: number): LatentToRgb {
  const known = publishedLatents(channels);
  if (known === undefined)
    return Array.from({ length: channels + 1 }, (_, channel) =>
      channel < channels ? [0, 0, 0] : [127.5, 127.5, 127.5],
    );
  return [
    ...known.colours.map((factors) => factors.map((factor) => factor * 127.5)),
    known.bias.map((bias) => (bias + 1) * 127.5),
  ];
}
