// Pictures in memory: 8-bit as decoded, float as resized and generated. Row-major, channels last, red green blue, as in ComfyUI's IMAGE type
// (https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/nodes.py, class LoadImage), and alpha, not premultiplied, where a picture has 4 channels.
import { QeditError } from "../std/errors.js";
import { float32, type Tensor } from "../std/tensor.js";

/** Channels of a picture unless it says more: red, green, blue. */
export const CHANNELS = 3;

/** Channels of a picture with transparency: red, green, blue, alpha. */
export const RGBA_CHANNELS = 4;

/** Width and height: pixels, latent cells or patches, as the owner says. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A rectangle of a picture in pixels; x and y name its left and upper edge. */
export interface Box extends Size {
  readonly x: number;
  readonly y: number;
}

/** Channels that a picture may have. */
export interface Channels {
  /** 4 with alpha; 3 unless given. */
  readonly channels?: 3 | 4;
}

/** A decoded picture: data [height, width, channels], 0..255. */
export interface Image extends Size, Channels {
  readonly data: Uint8Array;
}

/** A picture in floats: data [height, width, channels], 0..1 unless the model went beyond. */
export interface FloatImage extends Size, Channels {
  readonly data: Float32Array;
}

/** The number of channels of a picture. */
export function channelsOf({ channels = CHANNELS }: Channels): 3 | 4 {
  return channels;
}

/** The box that is all of a picture. */
export function wholeOf({ width, height }: Size): Box {
  return { x: 0, y: 0, width, height };
}

/** How floats become bytes: "round" to the nearest, or "truncate" as ComfyUI's SaveImage and its lanczos do. */
export type Quantization = "round" | "truncate";

/** The picture in floats, value / 255 in float32; a float picture is returned as it is. */
export function toFloat(image: Image | FloatImage): FloatImage {
  if (image.data instanceof Float32Array) return { ...image, data: image.data };
  const bytes = image.data;
  const data = new Float32Array(bytes.length);
  for (let i = 0; i < data.length; i++) data[i] = (bytes[i] as number) / 255;
  return { ...image, data };
}

/** The picture in bytes: clip(255·x, 0, 255), NaN as 0, then by quantization; a byte picture is returned as it is. */
export function toBytes(image: Image | FloatImage, quantization: Quantization): Image {
  if (image.data instanceof Uint8Array) return { ...image, data: image.data };
  // Math.fround: the product is a float32 in the reference, and truncation sees the difference.
  const offset = quantization === "round" ? 0.5 : 0;
  const floats = image.data;
  const data = new Uint8Array(floats.length);
  for (let i = 0; i < data.length; i++) {
    const scaled = Math.fround((floats[i] as number) * 255) + offset;
    data[i] = scaled > 0 ? Math.min(scaled, 255) : 0;
  }
  return { ...image, data };
}

/** The part of a picture inside box; the same picture when box is all of it. Throws when box reaches outside. */
export function crop<Picture extends Image | FloatImage>(image: Picture, box: Box): Picture {
  const { x, y, width, height } = box;
  if (x < 0 || y < 0 || width < 1 || height < 1 || x + width > image.width || y + height > image.height) {
    throw new Error(
      `internal: box ${width}x${height}+${x}+${y} reaches outside a picture of ${image.width}x${image.height}`,
    );
  }
  if (width === image.width && height === image.height) return image;
  const channels = channelsOf(image);
  const rowLength = width * channels;
  // Whole rows lie side by side already.
  if (width === image.width)
    return { ...image, height, data: image.data.subarray(y * rowLength, (y + height) * rowLength) };
  const data =
    image.data instanceof Uint8Array ? new Uint8Array(height * rowLength) : new Float32Array(height * rowLength);
  for (let row = 0; row < height; row++) {
    const start = ((y + row) * image.width + x) * channels;
    data.set(image.data.subarray(start, start + rowLength), row * rowLength);
  }
  return { ...image, width, height, data };
}

/** The picture as a tensor [1, channels, height, width], 0..1: the VAE's input layout. */
export function toPlanes(image: Image | FloatImage): Tensor<"float32"> {
  const { width, height, data } = toFloat(image);
  const channels = channelsOf(image);
  const area = width * height;
  const planes = new Float32Array(area * channels);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < channels; channel++)
      planes[channel * area + pixel] = data[pixel * channels + channel] as number;
  }
  return float32([1, channels, height, width], planes);
}

/** The picture of a tensor [1, height, width, 3 or 4]. Throws QEDIT_E_ARTIFACT on any other shape. */
export function fromBytes({ shape, data }: Tensor<"uint8">): Image {
  const [batch, height, width, channels, ...rest] = shape;
  const isKnown = channels === CHANNELS || channels === RGBA_CHANNELS;
  if (batch !== 1 || !isKnown || !height || !width || rest.length > 0) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot make a picture of a tensor [${shape.join(", ")}]: wanted [1, height, width, 3], or 4 with transparency`,
    );
  }
  return channels === CHANNELS ? { width, height, data } : { width, height, channels, data };
}
