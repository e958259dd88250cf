// Pixels of an opened picture as RGB bytes, where libvips and Pillow differ as Pillow has them.
import type { Metadata, Sharp } from "sharp";
import { divideBy255 } from "../divide-by-255.js";
import { CHANNELS, type Image } from "../image.js";
import { firstFrame, type GifFrame } from "./gif.js";

/** The picture as Pillow has it, EXIF orientation applied, without its transparency and its profile; bytes are the whole file. */
export async function decodePixels(input: Sharp, metadata: Metadata, bytes: Uint8Array): Promise<Image> {
  const oriented = input.autoOrient();
  if (metadata.space === "cmyk") return cmykToRgb(oriented, metadata);
  if (metadata.space === "grey16" && !metadata.hasAlpha) return grey16ToRgb(oriented);
  const frame = metadata.format === "gif" ? firstFrame(bytes) : undefined;
  if (metadata.hasAlpha && frame?.transparent !== undefined) return fillTransparent(oriented, frame.transparent);
  const { data, info } = await oriented
    .removeAlpha()
    .toColourspace("srgb")
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== CHANNELS) throw new Error(`internal: ${info.channels} channels decoded from ${metadata.space}`);
  const image = { width: info.width, height: info.height, data };
  return frame === undefined ? image : fillAround(image, frame);
}

// libvips leaves black where an opaque first frame does not cover the screen.
function fillAround(image: Image, { left, top, width, height, rest }: GifFrame): Image {
  if (left === 0 && top === 0 && width >= image.width && height >= image.height) return image;
  const data = Uint8Array.from(image.data);
  for (let pixel = 0; pixel < image.width * image.height; pixel++) {
    const [x, y] = [(pixel % image.width) - left, Math.floor(pixel / image.width) - top];
    const isInside = x >= 0 && x < width && y >= 0 && y < height;
    if (!isInside) data.set(rest, pixel * CHANNELS);
  }
  return { ...image, data };
}

/** Pillow's naive inversion, (255 - ink) · (255 - black) / 255: what is meant by ink is known only to a profile. Of 16 bits it takes the upper 8. */
async function cmykToRgb(input: Sharp, { depth }: Metadata): Promise<Image> {
  const isWide = depth === "ushort";
  const raw = input
    .pipelineColourspace("cmyk")
    .toColourspace("cmyk")
    .raw({ depth: isWide ? "ushort" : "uchar" });
  const { data: bytes, info } = await raw.toBuffer({ resolveWithObject: true });
  const data = isWide
    ? Uint8Array.from(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2), (level) => level >> 8)
    : bytes;
  const rgb = new Uint8Array(info.width * info.height * CHANNELS);
  for (let pixel = 0; pixel < info.width * info.height; pixel++) {
    const from = pixel * info.channels;
    const light = 255 - (data[from + 3] as number);
    for (let channel = 0; channel < CHANNELS; channel++) {
      rgb[pixel * CHANNELS + channel] = Math.max(light - divideBy255((data[from + channel] as number) * light), 0);
    }
  }
  return { width: info.width, height: info.height, data: rgb };
}

/** 16-bit grey scaled, value / 255 cut to an integer, so that the top 511 of 65536 levels are all white. Pillow clips it: nearly all would be white. */
async function grey16ToRgb(input: Sharp): Promise<Image> {
  const { data, info } = await input
    .toColourspace("grey16")
    .raw({ depth: "ushort" })
    .toBuffer({ resolveWithObject: true });
  const levels = new Uint16Array(data.buffer, data.byteOffset, info.width * info.height * info.channels);
  const rgb = new Uint8Array(info.width * info.height * CHANNELS);
  for (let pixel = 0; pixel < info.width * info.height; pixel++) {
    rgb.fill(Math.min((levels[pixel * info.channels] as number) / 255, 255), pixel * CHANNELS, (pixel + 1) * CHANNELS);
  }
  return { width: info.width, height: info.height, data: rgb };
}

/** libvips clears the colour of transparent GIF pixels; Pillow keeps the palette's. */
async function fillTransparent(input: Sharp, colour: readonly number[]): Promise<Image> {
  const { data, info } = await input
    .toColourspace("srgb")
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  const rgb = new Uint8Array(info.width * info.height * CHANNELS);
  for (let pixel = 0; pixel < info.width * info.height; pixel++) {
    const from = pixel * info.channels;
    rgb.set(data[from + CHANNELS] === 0 ? colour : data.subarray(from, from + CHANNELS), pixel * CHANNELS);
  }
  return { width: info.width, height: info.height, data: rgb };
}
