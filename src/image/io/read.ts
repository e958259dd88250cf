// Reads picture files as ComfyUI's LoadImage does (Pillow): EXIF orientation applied, alpha apart and not composited, first frame only.
// Other than there, colours are converted to sRGB by the profile in the file; the picture without that is given too.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/nodes.py (LoadImage)
import type { Metadata } from "sharp";
import { QeditError } from "../../std/errors.js";
import { hasNameOfOtherBytes } from "../../std/file-names.js";
import { type ReadOptions, readBounded } from "../../std/files.js";
import { type AlphaPlane, withAlpha } from "../alpha.js";
import type { Image, Size } from "../image.js";
import { alphaPlane } from "./alpha-plane.js";
import { decodeBmp } from "./bmp.js";
import { cameraExif } from "./camera-exif.js";
import { inSrgb, type OpenPicture, type PictureProfile, withProfile } from "./colour-profile.js";
import { declaredColours } from "./declared-colours.js";
import { decodePixels } from "./decode-pixels.js";
import { decodeForeign } from "./foreign-decoder.js";
import { type ForeignFormat, foreignFormat, foreignSize } from "./foreign-formats.js";
import { loadSharp } from "./load-sharp.js";
import { foreignColours } from "./tiff-colours.js";
import { withoutTexts } from "./without-texts.js";

/** What sharp's prebuilt libvips decodes and Pillow reads too; vector formats would need a size that was not given. */
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "heif"];
/** Types of samples whose range is that of the type. */
const DEPTHS = ["uchar", "ushort"];
const PATH_HINT = "Check the path of the picture";
const FORMAT_HINT = "Give a JPEG, PNG, WebP, GIF, TIFF, AVIF, HEIC, JPEG XL or BMP file";

/** Bytes of a file that is read as a picture. */
export const LARGEST_FILE = 1024 ** 3;

/** Where Pillow refuses a picture as a decompression bomb: twice 1 GiB of RGBA quarters, in pixels. */
export const MAX_PIXELS = 2 * Math.floor(1024 ** 3 / 4 / 3);

/** A picture as it was read. */
export interface ReadPicture {
  /** In sRGB, three channels: the colours as they are stored, under what is transparent too. */
  readonly image: Image;
  /** How transparent it is; undefined where every pixel is opaque. */
  readonly alpha?: AlphaPlane;
  /** The colour profile of a picture that was not in sRGB. */
  readonly profile?: PictureProfile;
  /** Its EXIF block, a TIFF structure. */
  readonly exif?: Buffer;
}

/**
 * Reads a picture from a path or from the bytes of a file. name stands for it in messages; a path names itself.
 * Throws QEDIT_E_IMAGE when it is missing, empty, truncated, too large or not a picture.
 */
export async function readPicture(source: string | Uint8Array, name = nameOf(source)): Promise<ReadPicture> {
  const bytes = await readBytes(source, name);
  const format = foreignFormat(bytes, name);
  if (format !== undefined) {
    refuseTooLarge(await headerOf(bytes, format, name), name);
    return decoding(name, async () =>
      format === "BMP" ? { image: decodeBmp(bytes) } : decodeForeign({ format, bytes }, name),
    );
  }
  const open = await opener(bytes);
  const metadata = await inspect(open, bytes, name);
  return decoding(name, async () => {
    const exif = cameraExif(bytes);
    const read = (picture: ReadPicture) => (exif === undefined ? picture : { ...picture, exif });
    if (metadata.compression === "hevc") return read(await readHeic(bytes, metadata, name));
    const warnings: string[] = [];
    const input = open({ isConverted: false });
    input.on("warning", (text: string) => warnings.push(text));
    const inProfile = await inSrgb(await decodePixels(input, metadata, bytes), { open, metadata, warnings });
    const alpha = await alphaPlane(open({ isConverted: false }), metadata);
    const coloured = metadata.icc === undefined ? await inDeclared(inProfile, bytes) : inProfile;
    return read(alpha === undefined ? coloured : { ...coloured, alpha });
  });
}

// libheif decodes the pixels, and libvips converts them by the profile that it finds in the header.
async function readHeic(bytes: Buffer, { icc }: Metadata, name: string): Promise<ReadPicture> {
  const { image, ...alpha } = await decodeForeign({ format: "HEIC", bytes }, name);
  return { ...(icc === undefined ? await inDeclared({ image }, bytes) : await withProfile(image, icc)), ...alpha };
}

// Colours that are declared by other means than a profile, which counts before them.
async function inDeclared(read: ReadPicture, bytes: Buffer): Promise<ReadPicture> {
  const declared = read.profile === undefined ? declaredColours(bytes) : undefined;
  if (declared === undefined) return read;
  return "icc" in declared ? withProfile(read.image, declared.icc) : { ...read, profile: declared };
}

async function decoding(name: string, work: () => Promise<ReadPicture>): Promise<ReadPicture> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof QeditError) throw cause;
    throw new QeditError("QEDIT_E_IMAGE", `Cannot decode ${name}: ${firstLine(cause)}`, {
      hint: "The file is damaged or incomplete. Copy or download it again",
      cause,
    });
  }
}

/** The picture of readPicture alone. */
export async function readImage(source: string | Uint8Array, name = nameOf(source)): Promise<Image> {
  return (await readPicture(source, name)).image;
}

/** The picture of readPicture with its transparency: 4 channels where some pixel is not opaque. */
export async function readWithAlpha(source: string | Uint8Array, name = nameOf(source)): Promise<Image> {
  const { image, alpha } = await readPicture(source, name);
  return alpha === undefined ? image : withAlpha(image, alpha);
}

/** Width and height that readImage will give, from the file's header alone. Throws as readImage does, but misses damaged pixels. */
export async function readSize(source: string | Uint8Array, name = nameOf(source)): Promise<Size> {
  const bytes = await readBytes(source, name);
  const format = foreignFormat(bytes, name);
  if (format !== undefined) return headerOf(bytes, format, name);
  const open = await opener(bytes);
  const { width, height } = (await inspect(open, bytes, name)).autoOrient;
  return { width, height };
}

function nameOf(source: string | Uint8Array): string {
  return typeof source === "string" ? source : "the picture";
}

const REASONS: Record<string, string> = {
  ENOENT: "there is no such file",
  EISDIR: "it is a directory",
  EACCES: "permission denied",
};

async function headerOf(bytes: Buffer, format: ForeignFormat, name: string): Promise<Size> {
  try {
    return foreignSize(bytes, format);
  } catch (cause) {
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: ${firstLine(cause)}`, { hint: FORMAT_HINT, cause });
  }
}

/**
 * The bytes of a picture file by its path, or of a pipe's unless the options say otherwise; not decoded. Throws QEDIT_E_IMAGE when it is missing, empty, too
 * large, or a device.
 */
export async function readBytes(
  source: string | Uint8Array,
  name = nameOf(source),
  { hasPipes = true }: ReadOptions = {},
): Promise<Buffer> {
  let bytes = source;
  if (typeof bytes === "string") {
    const path = bytes;
    try {
      bytes = await readBounded(path, LARGEST_FILE, { hasPipes });
    } catch (cause) {
      if (cause instanceof QeditError) throw new QeditError("QEDIT_E_IMAGE", cause.message, { hint: PATH_HINT, cause });
      if (await hasNameOfOtherBytes(path)) throw nameOfOtherBytes(name);
      const reason = REASONS[(cause as NodeJS.ErrnoException).code ?? ""] ?? firstLine(cause);
      throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: ${reason}`, {
        hint: PATH_HINT,
        cause,
      });
    }
  }
  if (bytes.byteLength > 0) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: the file is empty`, { hint: FORMAT_HINT });
}

/** The error for a picture that is there under a name which is not UTF-8. */
export function nameOfOtherBytes(name: string): QeditError {
  return new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: its name is not UTF-8`, {
    hint: "Give it another name",
  });
}

async function opener(bytes: Buffer): Promise<OpenPicture> {
  const sharp = loadSharp();
  // "error" and not "warning": odd but harmless metadata must not stop a picture that every viewer shows. Truncation is an error.
  const lean = withoutTexts(bytes);
  return ({ isConverted }) =>
    sharp(lean, { failOn: "error", ignoreIcc: !isConverted, limitInputPixels: false, pages: 1 });
}

async function inspect(open: OpenPicture, bytes: Buffer, name: string): Promise<Metadata> {
  let metadata: Metadata;
  try {
    metadata = await open({ isConverted: false }).metadata();
  } catch (cause) {
    throw new QeditError(
      "QEDIT_E_IMAGE",
      `Cannot read ${name}: not a picture that can be decoded (${firstLine(cause)})`,
      {
        hint: FORMAT_HINT,
        cause,
      },
    );
  }
  if (!FORMATS.includes(metadata.format)) {
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: ${metadata.format} is not supported`, {
      hint: FORMAT_HINT,
    });
  }
  refuseTooLarge(metadata, name);
  refuseForeignSamples(metadata, bytes, name);
  return metadata;
}

// What libvips would take for red, green and blue in 0..255 all the same.
function refuseForeignSamples({ depth }: Metadata, bytes: Buffer, name: string): void {
  const isNumber = depth === undefined || DEPTHS.includes(depth);
  const colours = foreignColours(bytes);
  if (isNumber && colours === undefined) return;
  const reason = isNumber
    ? `its colours are ${colours}`
    : `its samples are of the type ${depth}, of which it says no range`;
  throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: ${reason}`, {
    hint: "Save it in RGB or grey, with 8 or 16 bits a channel",
  });
}

function refuseTooLarge({ width, height }: Size, name: string): void {
  if (width * height > MAX_PIXELS) {
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: ${width}x${height} is more than ${MAX_PIXELS} pixels`, {
      hint: "Scale the picture down first",
    });
  }
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const [first = "", second = ""] = message.split("\n");
  // Some of libvips' reasons stand below what they are reasons of, and some are missing.
  const line = first.trimEnd().endsWith(":") ? `${first.trimEnd()} ${second}`.replace(/:? *$/, "") : first;
  const reason = line.replace(/^Input (buffer|file) /, "").replace(/\.$/, "");
  return /^(unknown error)?$/i.test(reason) ? "its decoder gives no reason" : reason;
}
