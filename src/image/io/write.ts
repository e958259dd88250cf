// Encodes a finished picture, and writes a description (the recipe) into the file: iTXt in PNG, EXIF ImageDescription elsewhere; what is too
// long for EXIF goes into comments in JPEG and into XMP in WebP. PNG chunks: https://www.w3.org/TR/png-3/#11iTXt
import { extname } from "node:path";
import { crc32 } from "node:zlib";
import { QeditError } from "../../std/errors.js";
import { CHANNELS, type FloatImage, type Image, type Quantization, toBytes } from "../image.js";
import { DESCRIPTION_KEYWORD } from "./description.js";

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
// Lossy, yet without visible loss: an edit is often edited again.
const LOSSY_QUALITY = 95;
const HEADER_END = 33;

/** Longest text that is put into EXIF, bytes: a JPEG segment holds 65533, other EXIF fields among them. libvips silently drops what is longer. */
const LONGEST_EXIF = 64_000;
const LONGEST_COMMENT = 65_000;

/** How to encode a picture. */
export interface WriteOptions {
  readonly format: PictureFormat;
  /** "truncate" for the bytes ComfyUI would save; default "round". */
  readonly quantization?: Quantization;
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

/** The bytes of a picture file, tagged as sRGB. PNG is lossless at ComfyUI's compress level; JPEG (4:4:4) and WebP at quality 95. */
export async function encodePicture(picture: Image | FloatImage, options: WriteOptions): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp");
  const { width, height, data } = toBytes(picture, options.quantization ?? "round");
  // From sRGB to sRGB: changes no pixel.
  const image = sharp(data, { raw: { width, height, channels: CHANNELS } }).withIccProfile("srgb");
  if (options.format === "png") {
    const png = await image.png({ compressionLevel: PNG_COMPRESSION }).toBuffer();
    return options.description === undefined ? png : withTextChunk(png, options.description);
  }
  const text = options.description === undefined ? undefined : asciiJson(options.description);
  const isLong = text !== undefined && text.length > LONGEST_EXIF;
  if (text !== undefined && !isLong) image.withExif({ IFD0: { ImageDescription: text } });
  if (options.format === "webp")
    return (isLong ? image.withXmp(xmpOf(text)) : image).webp({ quality: LOSSY_QUALITY }).toBuffer();
  const jpeg = await image.jpeg({ quality: LOSSY_QUALITY, chromaSubsampling: "4:4:4" }).toBuffer();
  return isLong ? withComments(jpeg, text) : jpeg;
}

/** EXIF text is ASCII; in JSON the escape means the same character. */
function asciiJson(text: string): string {
  return text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Puts an uncompressed iTXt chunk behind IHDR, in front of the pixels, where readers look for text. */
function withTextChunk(png: Uint8Array, text: string): Uint8Array {
  // After the keyword: its end, no compression (flag and method), no language, no translated keyword.
  const body = Buffer.from(`iTXt${DESCRIPTION_KEYWORD}\0\0\0\0\0${text}`, "utf8");
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), chunk.length - 4);
  return Buffer.concat([png.subarray(0, HEADER_END), chunk, png.subarray(HEADER_END)]);
}

/** Puts text into as many JPEG comments as it takes, each headed by its number, in front of everything but the JFIF header. */
function withComments(jpeg: Uint8Array, text: string): Uint8Array {
  const count = Math.ceil(text.length / LONGEST_COMMENT);
  const comments = Array.from({ length: count }, (_, i) => {
    const body = Buffer.from(
      `${DESCRIPTION_KEYWORD} ${i + 1}/${count}\0${text.slice(i * LONGEST_COMMENT, (i + 1) * LONGEST_COMMENT)}`,
      "latin1",
    );
    const head = Buffer.from([0xff, 0xfe, 0, 0]);
    head.writeUInt16BE(body.length + 2, 2);
    return Buffer.concat([head, body]);
  });
  const at = jpeg[3] === 0xe0 ? 4 + Buffer.from(jpeg).readUInt16BE(4) : 2;
  return Buffer.concat([jpeg.subarray(0, at), ...comments, jpeg.subarray(at)]);
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
