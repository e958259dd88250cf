// Encodes a finished picture, and writes a description (the recipe) into the file: iTXt in PNG, EXIF ImageDescription elsewhere.
// PNG chunks: https://www.w3.org/TR/png-3/#11iTXt
import { extname } from "node:path";
import { crc32 } from "node:zlib";
import { QeditError } from "../errors.js";
import { CHANNELS, type FloatImage, type Image, type Quantization, toBytes } from "./image.js";

/** File formats that can be written. */
export type PictureFormat = "png" | "jpeg" | "webp";

const FORMAT_OF_EXTENSION: Readonly<Record<string, PictureFormat>> = { ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp" };

// ComfyUI's SaveImage.
const PNG_COMPRESSION = 4;
// Lossy, yet without visible loss: an edit is often edited again.
const LOSSY_QUALITY = 95;
const DESCRIPTION_KEYWORD = "qedit";
const HEADER_END = 33;

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

/** The bytes of a picture file. PNG is lossless at ComfyUI's compress level; JPEG (4:4:4) and WebP at quality 95. */
export async function encodePicture(picture: Image | FloatImage, options: WriteOptions): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp");
  const { width, height, data } = toBytes(picture, options.quantization ?? "round");
  const image = sharp(data, { raw: { width, height, channels: CHANNELS } });
  if (options.format === "png") {
    const png = await image.png({ compressionLevel: PNG_COMPRESSION }).toBuffer();
    return options.description === undefined ? png : withTextChunk(png, options.description);
  }
  if (options.description !== undefined) image.withExif({ IFD0: { ImageDescription: asciiJson(options.description) } });
  if (options.format === "webp") return image.webp({ quality: LOSSY_QUALITY }).toBuffer();
  return image.jpeg({ quality: LOSSY_QUALITY, chromaSubsampling: "4:4:4" }).toBuffer();
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
