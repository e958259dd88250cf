// Colour profiles (ICC) of picture files: pixels are converted to sRGB by libvips and lcms, perceptual intent with black point compensation.
// Format: https://www.color.org/specification/ICC.1-2022-05.pdf (7.2, 10.15; of version 2: 6.5.17)
import { deflateSync } from "node:zlib";
import type { Metadata, Sharp } from "sharp";
import { CHANNELS, type Image } from "../image.js";
import { loadSharp } from "./load-sharp.js";
import { pngChunk } from "./without-texts.js";

/** The profile of a picture that is not in sRGB: converted, or left out of account because of a fault. */
export type PictureProfile =
  | { readonly name: string; readonly unconverted: Image }
  | { readonly name: string; readonly fault: string };

/** Opens the file: with its profile applied as it is decoded, or as stored. */
export type OpenPicture = (options: { readonly isConverted: boolean }) => Sharp;

/** Levels of 255 by which conversions of one profile differ; one that changes nothing by more is of sRGB, whatever it is called. */
const SAME = 2;

/** Where the chunks after IHDR begin. */
const PNG_HEADER_END = 33;

const LONGEST_NAME = 60;
const TAG_TABLE = 128;
const MOST_TAGS = 100;

/** libvips's warnings for a profile in a PNG file that libpng refuses. */
const REFUSED_BY_PNG = /^iCCP: (.*)/;

/** A picture in sRGB, and what became of its profile; undefined if it has none or one of sRGB. `stored` is the picture without conversion. */
export async function inSrgb(
  stored: Image,
  { open, metadata, warnings }: { open: OpenPicture; metadata: Metadata; warnings: readonly string[] },
): Promise<{ readonly image: Image; readonly profile?: PictureProfile }> {
  const { icc } = metadata;
  if (icc === undefined) {
    const refused = warnings.map((text) => REFUSED_BY_PNG.exec(text)?.[1]).find((text) => text !== undefined);
    return refused === undefined ? { image: stored } : { image: stored, profile: { name: "", fault: refused } };
  }
  const name = profileName(icc);
  const found: string[] = [];
  const image = await converted(open, metadata, found).catch((error: unknown) => {
    found.push((error as Error).message.split("\n")[0]!);
    return stored;
  });
  const fault = found.find((text) => !warnings.includes(text));
  if (fault !== undefined) return { image: stored, profile: { name, fault } };
  return isSame(image, stored) ? { image: stored } : { image, profile: { name, unconverted: stored } };
}

/** A picture of 8 bits with a profile that stands elsewhere in its file. */
export async function withProfile(
  stored: Image,
  icc: Buffer,
): Promise<{ readonly image: Image; readonly profile?: PictureProfile }> {
  const sharp = loadSharp();
  const { width, height, data } = stored;
  const plain = await sharp(data, { raw: { width, height, channels: CHANNELS } })
    .png({ compressionLevel: 1 })
    .toBuffer();
  const chunk = pngChunk("iCCP", Buffer.concat([Buffer.from("ICC\0\0", "latin1"), deflateSync(icc)]));
  const png = Buffer.concat([plain.subarray(0, PNG_HEADER_END), chunk, plain.subarray(PNG_HEADER_END)]);
  const open: OpenPicture = ({ isConverted }) => sharp(png, { ignoreIcc: !isConverted, limitInputPixels: false });
  const warnings: string[] = [];
  const input = open({ isConverted: false });
  input.on("warning", (text: string) => warnings.push(text));
  await input.raw().toBuffer();
  return inSrgb(stored, { open, metadata: await open({ isConverted: false }).metadata(), warnings });
}

async function converted(open: OpenPicture, { depth, space }: Metadata, warnings: string[]): Promise<Image> {
  const isDeep = depth === "ushort" && space !== "cmyk";
  // libvips would convert 16-bit pixels to Display P3 first. Its other way, which is for output, takes the profile in the file too.
  const input = open({ isConverted: !isDeep });
  input.on("warning", (text: string) => warnings.push(text));
  const pixels = input.autoOrient().removeAlpha();
  if (!isDeep) {
    const { data, info } = await pixels
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  }
  const { data, info } = await pixels
    .toColourspace(space === "grey16" ? "grey16" : "rgb16")
    .withIccProfile("srgb")
    .raw({ depth: "ushort" })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const levels = new Uint16Array(data.buffer, data.byteOffset, width * height * channels);
  const rgb = new Uint8Array(width * height * CHANNELS);
  for (let i = 0; i < rgb.length; i++) {
    const pixel = Math.floor(i / CHANNELS);
    rgb[i] = Math.round(levels[pixel * channels + Math.min(i % CHANNELS, channels - 1)]! / 257);
  }
  return { width, height, data: rgb };
}

function isSame(a: Image, b: Image): boolean {
  return a.data.length === b.data.length && a.data.every((value, index) => Math.abs(value - b.data[index]!) <= SAME);
}

/** The description of a profile, empty if it has none. Control characters are left out: it comes from a file. */
export function profileName(icc: Uint8Array): string {
  const bytes = Buffer.from(icc.buffer, icc.byteOffset, icc.byteLength);
  const text = descriptionOf(bytes) ?? "";
  return [...text.replace(/[\p{C}\p{Z}]+/gu, " ").trim()].slice(0, LONGEST_NAME).join("");
}

function descriptionOf(bytes: Buffer): string | undefined {
  if (bytes.length < TAG_TABLE + 4) return undefined;
  const count = Math.min(bytes.readUInt32BE(TAG_TABLE), MOST_TAGS);
  for (let at = TAG_TABLE + 4; at < TAG_TABLE + 4 + count * 12 && at + 12 <= bytes.length; at += 12) {
    if (bytes.toString("latin1", at, at + 4) !== "desc") continue;
    const start = bytes.readUInt32BE(at + 4);
    const body = bytes.subarray(start, start + bytes.readUInt32BE(at + 8));
    if (body.length < 28) return undefined;
    if (body.toString("latin1", 0, 4) === "desc") return body.toString("latin1", 12, 11 + body.readUInt32BE(8));
    // Version 4: texts in several languages; the first one.
    const [length, offset] = [body.readUInt32BE(20), body.readUInt32BE(24)];
    const text = Buffer.from(body.subarray(offset, offset + (length & ~1)));
    return text.length % 2 === 0 ? text.swap16().toString("utf16le") : undefined;
  }
  return undefined;
}
