// Encodes a finished picture, and writes a description (the recipe) into the file: iTXt in PNG, EXIF ImageDescription elsewhere; what is too
// long for EXIF goes into comments in JPEG and into XMP in WebP. PNG chunks: https://www.w3.org/TR/png-3/#11iTXt
import { extname } from "node:path";
import { QeditError } from "../../std/errors.js";
import { overWhite } from "../alpha.js";
import { channelsOf, type FloatImage, type Image, type Quantization, toBytes } from "../image.js";
import { exifOfResult } from "./camera-exif.js";
import { DESCRIPTION_KEYWORD } from "./description.js";
import { loadSharp } from "./load-sharp.js";
import { pngChunk, riffChunk, WEBP_EXIF } from "./without-texts.js";

/** File formats that can be written. */
export type PictureFormat = "png" | "jpeg" | "webp";

const FORMAT_OF_EXTENSION: Readonly<Record<string, PictureFormat>> = {
  ".png": "png",
  ".jpg": "jpeg",
  ".jpeg": "jpeg",
  ".webp": "webp",
};

// ComfyUI's SaveImage.
const PNG_COMPRESSION = 4;
/** Quality of JPEG and WebP unless another is given: lossy, yet without visible loss, since an edit is often edited again. */
export const LOSSY_QUALITY = 95;
const HEADER_END = 33;

/** Longest text that is put into EXIF, bytes: a JPEG segment holds 65533, other EXIF fields among them. libvips silently drops what is longer. */
const LONGEST_EXIF = 64_000;
const LONGEST_COMMENT = 65_000;

/** How to encode a picture. */
export interface WriteOptions {
  readonly format: PictureFormat;
  /** "truncate" for the bytes ComfyUI would save; default "round". */
  readonly quantization?: Quantization;
  /** Quality of JPEG and WebP, 1 to 100. */
  readonly quality?: number | undefined;
  /** The EXIF block of a camera to carry in the file, a TIFF structure. */
  readonly exif?: Buffer | undefined;
  /** JSON to carry in the file, for example a recipe. Outside PNG its characters beyond ASCII are escaped, as EXIF wants. */
  readonly description?: string;
}

/** The format that a path's extension names. Throws QEDIT_E_USAGE for any other extension. */
export function formatOf(path: string): PictureFormat {
  const extension = extname(path).toLowerCase();
  const format = FORMAT_OF_EXTENSION[extension];
  if (format === undefined) {
    const found = extension === "" ? "no extension" : `"${extension}"`;
    throw new QeditError("QEDIT_E_USAGE", `Cannot tell the picture format of ${path}: found ${found}`, {
      hint: `End the name in ${Object.keys(FORMAT_OF_EXTENSION).join(", ")}`,
    });
  }
  return format;
}

/** The bytes of a picture file, tagged as sRGB. PNG is lossless at ComfyUI's compress level; JPEG (4:4:4) and WebP are of quality 95 unless another is given. PNG and WebP keep alpha; JPEG is over white. */
export async function encodePicture(picture: Image | FloatImage, options: WriteOptions): Promise<Uint8Array> {
  const sharp = loadSharp();
  const bytes = toBytes(picture, options.quantization ?? "round");
  const shown = options.format === "jpeg" ? overWhite(bytes) : bytes;
  const { width, height, data } = shown;
  // From sRGB to sRGB: changes no pixel.
  const image = sharp(data, { raw: { width, height, channels: channelsOf(shown) } }).withIccProfile("srgb");
  const { description, exif, quality = LOSSY_QUALITY } = options;
  if (options.format === "png") {
    const png = await image.png({ compressionLevel: PNG_COMPRESSION }).toBuffer();
    const chunks = [
      ...(description === undefined ? [] : [textChunk(description)]),
      ...(exif === undefined ? [] : [pngChunk("eXIf", exifOfResult(exif, { width, height }))]),
    ];
    return chunks.length === 0
      ? png
      : Buffer.concat([png.subarray(0, HEADER_END), ...chunks, png.subarray(HEADER_END)]);
  }
  const text = description === undefined ? undefined : asciiJson(description);
  const isLong = text !== undefined && text.length + (exif?.length ?? 0) > LONGEST_EXIF;
  const ownExif = exif && exifOfResult(exif, { width, height }, isLong ? undefined : text);
  if (text !== undefined && !isLong && ownExif === undefined) image.withExif({ IFD0: { ImageDescription: text } });
  if (options.format === "webp") {
    const webp = await (isLong ? image.withXmp(xmpOf(text)) : image).webp({ quality }).toBuffer();
    return ownExif === undefined ? webp : withExifChunk(webp, ownExif);
  }
  const jpeg = await image.jpeg({ quality, chromaSubsampling: "4:4:4" }).toBuffer();
  const front = [...(ownExif === undefined ? [] : [exifSegment(ownExif)]), ...(isLong ? comments(text) : [])];
  return front.length === 0 ? jpeg : withSegments(jpeg, front);
}

/** EXIF text is ASCII; in JSON the escape means the same character. */
function asciiJson(text: string): string {
  return text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** An uncompressed iTXt chunk. It goes behind IHDR, in front of the pixels, where readers look for text. */
function textChunk(text: string): Buffer {
  // After the keyword: its end, no compression (flag and method), no language, no translated keyword.
  return pngChunk("iTXt", Buffer.from(`${DESCRIPTION_KEYWORD}\0\0\0\0\0${text}`, "utf8"));
}

/** Text as so many JPEG comments as it takes, each headed by its number. */
function comments(text: string): Buffer[] {
  const count = Math.ceil(text.length / LONGEST_COMMENT);
  return Array.from({ length: count }, (_, i) => {
    const part = text.slice(i * LONGEST_COMMENT, (i + 1) * LONGEST_COMMENT);
    return segment(0xfe, Buffer.from(`${DESCRIPTION_KEYWORD} ${i + 1}/${count}\0${part}`, "latin1"));
  });
}

function exifSegment(exif: Buffer): Buffer {
  return segment(0xe1, Buffer.concat([Buffer.from("Exif\0\0", "latin1"), exif]));
}

function segment(marker: number, body: Buffer): Buffer {
  const head = Buffer.from([0xff, marker, 0, 0]);
  head.writeUInt16BE(body.length + 2, 2);
  return Buffer.concat([head, body]);
}

/** Puts segments in front of everything but the JFIF header. */
function withSegments(jpeg: Uint8Array, segments: readonly Buffer[]): Uint8Array {
  const at = jpeg[3] === 0xe0 ? 4 + Buffer.from(jpeg).readUInt16BE(4) : 2;
  return Buffer.concat([jpeg.subarray(0, at), ...segments, jpeg.subarray(at)]);
}

/** Appends an EXIF chunk to a WebP file, which has an extended header, for it has a profile. */
function withExifChunk(webp: Uint8Array, exif: Buffer): Uint8Array {
  const whole = Buffer.concat([webp, riffChunk("EXIF", exif)]);
  if (whole.toString("latin1", 12, 16) !== "VP8X")
    throw new Error("internal: a WebP with a profile has no VP8X header");
  whole[20]! |= WEBP_EXIF.flag;
  whole.writeUInt32LE(whole.length - 8, 4);
  return whole;
}

/** The smallest XMP packet with a description. */
function xmpOf(text: string): string {
  const escaped = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const description = `<dc:description><rdf:Alt><rdf:li xml:lang="x-default">${escaped}</rdf:li></rdf:Alt></dc:description>`;
  return (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' +
    `<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">${description}</rdf:Description></rdf:RDF></x:xmpmeta>`
  );
}
