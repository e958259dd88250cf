// A picture file as its decoder is given it: without the texts, EXIF and XMP in it. libvips inflates all of them, and libexif follows their loops for
// seconds, so a small file could take gigabytes. Only the orientation is kept, in an EXIF block of qedit's own.
// https://www.w3.org/TR/png-3/#11Chunks, https://developers.google.com/speed/webp/docs/riff_container, ISO/IEC 23008-12 (infe)
import { crc32 } from "node:zlib";
import { exifOrientation, orientationBlock } from "./exif.js";

const PNG_SIGNATURE = "\x89PNG\r\n\x1a\n";
const EXIF_SIGNATURE = "Exif\0\0";

/** PNG chunks beside the pixels that say what the pixels mean. */
const PNG_CHUNKS = new Set(["IHDR", "PLTE", "IDAT", "IEND", "tRNS", "iCCP", "sRGB", "gAMA", "cHRM", "cICP", "sBIT"]);

/** Kinds of a WebP chunk, and the flags of VP8X that announce them. */
export const WEBP_EXIF = { type: "EXIF", flag: 0x08 };
const WEBP_XMP = { type: "XMP ", flag: 0x04 };

/** Where the type of a HEIF item stands, from the name of its box: behind the version, flags, identifier and protection. Version 3 has longer identifiers. */
const ITEM_TYPE_AT = { short: 12, long: 14 };

/** The bytes for the decoder; the file itself if nothing is left out. Never throws: a damaged file is given on as it is from the damage on. */
export function withoutTexts(file: Uint8Array): Buffer {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.toString("latin1", 0, 8) === PNG_SIGNATURE) return leanPng(bytes);
  if (bytes.toString("latin1", 0, 4) === "RIFF" && bytes.toString("latin1", 8, 12) === "WEBP") return leanWebp(bytes);
  if (bytes.toString("latin1", 4, 8) === "ftyp") return leanHeif(bytes);
  return bytes;
}

function leanPng(bytes: Buffer): Buffer {
  const parts = [bytes.subarray(0, PNG_SIGNATURE.length)];
  let at = PNG_SIGNATURE.length;
  let hasPixels = false;
  while (at + 12 <= bytes.length) {
    const length = bytes.readUInt32BE(at);
    const end = at + 12 + length;
    if (end > bytes.length) break;
    const type = bytes.toString("latin1", at + 4, at + 8);
    hasPixels ||= type === "IDAT";
    // Behind the pixels an orientation does not count.
    if (type === "eXIf" && !hasPixels) parts.push(pngChunk("eXIf", oriented(bytes.subarray(at + 8, end - 4))));
    else if (isNeeded(type)) parts.push(bytes.subarray(at, end));
    at = end;
    if (type === "IEND") return Buffer.concat(parts);
  }
  return Buffer.concat([...parts, bytes.subarray(at)]);
}

// A chunk whose name starts with a capital letter is critical: a decoder that does not know it must refuse the file.
function isNeeded(type: string): boolean {
  return PNG_CHUNKS.has(type) || /^[A-Z]/.test(type);
}

/** A chunk of a PNG file: length, type, body and checksum. */
export function pngChunk(type: string, body: Uint8Array): Buffer {
  const named = Buffer.concat([Buffer.from(type, "latin1"), body]);
  const chunk = Buffer.alloc(named.length + 8);
  chunk.writeUInt32BE(body.length, 0);
  named.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(named), chunk.length - 4);
  return chunk;
}

function leanWebp(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 12;
  while (at + 8 <= bytes.length) {
    const type = bytes.toString("latin1", at, at + 4);
    const end = at + 8 + bytes.readUInt32LE(at + 4);
    if (end > bytes.length) break;
    const body = bytes.subarray(at + 8, end);
    if (type === WEBP_EXIF.type) parts.push(riffChunk(type, oriented(body)));
    else if (type !== WEBP_XMP.type) parts.push(bytes.subarray(at, Math.min(end + (end % 2), bytes.length)));
    // Chunks begin at even offsets.
    at = end + (end % 2);
  }
  const rest = bytes.subarray(at);
  // A file that is cut off must stay shorter than its header says.
  const missing = Math.max(bytes.readUInt32LE(4) + 8 - bytes.length, 0);
  const length = parts.reduce((sum, part) => sum + part.length, 4) + rest.length + missing;
  const head = Buffer.from(bytes.subarray(0, 12));
  head.writeUInt32LE(length, 4);
  const lean = Buffer.concat([head, ...parts, rest]);
  if (lean.toString("latin1", 12, 16) === "VP8X" && lean.length > 20) lean[20]! &= ~WEBP_XMP.flag;
  return lean;
}

/** A chunk of a RIFF file, padded to an even length. */
export function riffChunk(type: string, body: Uint8Array): Buffer {
  const chunk = Buffer.alloc(8 + body.length + (body.length % 2));
  chunk.write(type, 0, "latin1");
  chunk.writeUInt32LE(body.length, 4);
  chunk.set(body, 8);
  return chunk;
}

// Items stay where they are and lose their type, for the offsets of the others count from the start of the file. The picture's own boxes turn it.
function leanHeif(bytes: Buffer): Buffer {
  let lean = bytes;
  for (let at = bytes.indexOf("infe"); at >= 0; at = bytes.indexOf("infe", at + 4)) {
    const type = at + (bytes[at + 4] === 3 ? ITEM_TYPE_AT.long : ITEM_TYPE_AT.short);
    const name = bytes.toString("latin1", type, type + 4);
    if (name !== "Exif" && name !== "mime") continue;
    if (lean === bytes) lean = Buffer.from(bytes);
    lean.write("skip", type, "latin1");
  }
  return lean;
}

function oriented(exif: Buffer): Buffer {
  const isSigned = exif.toString("latin1", 0, EXIF_SIGNATURE.length) === EXIF_SIGNATURE;
  return orientationBlock(exifOrientation(isSigned ? exif.subarray(EXIF_SIGNATURE.length) : exif));
}
