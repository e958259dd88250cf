// The EXIF block of a camera, for the results of edits: everything stays where it is, for a maker's note may point anywhere in it; what no longer holds is
// changed in place. https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf
import type { Size } from "../image.js";
import { heifExif } from "./heif-exif.js";

const EXIF_SIGNATURE = "Exif\0\0";

/** The longest block that is kept, bytes: a JPEG segment holds no more, the recipe's place among it. */
const LONGEST = 60_000;

const MOST_ENTRIES = 500;
const ENTRY_BYTES = 12;
const [ASCII, SHORT, LONG] = [2, 3, 4];

const TAG = {
  width: 0x0100,
  height: 0x0101,
  description: 0x010e,
  orientation: 0x0112,
  exif: 0x8769,
  colourSpace: 0xa001,
  exifWidth: 0xa002,
  exifHeight: 0xa003,
  interoperability: 0xa005,
} as const;

const UPRIGHT = 1;
const SRGB = 1;

/** The EXIF block of a PNG, JPEG, WebP, HEIC or AVIF file as a TIFF structure; undefined where there is none, or none that could be kept. Never throws. */
export function cameraExif(bytes: Buffer): Buffer | undefined {
  const found = blockOf(bytes);
  if (found === undefined) return undefined;
  const isSigned = found.toString("latin1", 0, EXIF_SIGNATURE.length) === EXIF_SIGNATURE;
  const tiff = isSigned ? found.subarray(EXIF_SIGNATURE.length) : found;
  const isTiff = /^(II\*\0|MM\0\*)/.test(tiff.toString("latin1", 0, 4));
  return isTiff && tiff.length >= 14 && tiff.length <= LONGEST ? Buffer.from(tiff) : undefined;
}

/** What an EXIF block says of its colours: `R98` for sRGB, `R03` for Adobe RGB; undefined where it says nothing. */
export function interoperabilityIndex(tiff: Buffer): string | undefined {
  const block = new Block(tiff);
  for (const entry of block.entries(block.u32(4))) {
    if (entry.tag !== TAG.exif) continue;
    for (const below of block.entries(block.value(entry))) {
      if (below.tag !== TAG.interoperability) continue;
      for (const index of block.entries(block.value(below))) if (index.tag === 1) return block.text(index).slice(0, 3);
    }
  }
  return undefined;
}

/** The block for a result of size pixels: upright, in sRGB, without the original's thumbnail, and with a description, ASCII, if one is given. */
export function exifOfResult(tiff: Buffer, size: Size, description?: string): Buffer {
  const block = new Block(Buffer.from(tiff));
  const main = block.u32(4);
  for (const entry of block.entries(main)) {
    if (entry.tag === TAG.orientation) block.put(entry, UPRIGHT);
    else if (entry.tag === TAG.width) block.put(entry, size.width);
    else if (entry.tag === TAG.height) block.put(entry, size.height);
    // An earlier edit's recipe is not this one's.
    else if (entry.tag === TAG.description && block.text(entry).trimStart().startsWith("{")) block.clear(entry);
    else if (entry.tag === TAG.exif) sayOfPixels(block, block.value(entry), size);
  }
  block.endAfter(main);
  return description === undefined ? block.bytes : block.withText(main, TAG.description, description);
}

function sayOfPixels(block: Block, folder: number, { width, height }: Size): void {
  for (const entry of block.entries(folder)) {
    if (entry.tag === TAG.colourSpace) block.put(entry, SRGB);
    else if (entry.tag === TAG.exifWidth) block.put(entry, width);
    else if (entry.tag === TAG.exifHeight) block.put(entry, height);
    // It would say Adobe RGB.
    else if (entry.tag === TAG.interoperability)
      for (const index of block.entries(block.value(entry)))
        if (block.text(index).startsWith("R03")) block.bytes.write("R98", index.at + 8, "latin1");
  }
}

interface Entry {
  readonly at: number;
  readonly tag: number;
  readonly type: number;
  readonly count: number;
}

/** A TIFF structure that is changed in place. Places outside it are passed over. */
class Block {
  readonly bytes: Buffer;
  readonly #isLittle: boolean;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.#isLittle = bytes[0] === 0x49;
  }

  u16(at: number): number {
    return this.#isLittle ? this.bytes.readUInt16LE(at) : this.bytes.readUInt16BE(at);
  }

  u32(at: number): number {
    return this.#isLittle ? this.bytes.readUInt32LE(at) : this.bytes.readUInt32BE(at);
  }

  #write(bytes: Buffer, value: number, at: number, size: 2 | 4): void {
    if (this.#isLittle) bytes.writeUIntLE(value, at, size);
    else bytes.writeUIntBE(value, at, size);
  }

  *entries(folder: number): Iterable<Entry> {
    if (folder < 8 || folder + 2 > this.bytes.length) return;
    const count = Math.min(this.u16(folder), MOST_ENTRIES);
    for (let i = 0, at = folder + 2; i < count && at + ENTRY_BYTES <= this.bytes.length; i++, at += ENTRY_BYTES)
      yield { at, tag: this.u16(at), type: this.u16(at + 2), count: this.u32(at + 4) };
  }

  value({ at, type }: Entry): number {
    return type === SHORT ? this.u16(at + 8) : this.u32(at + 8);
  }

  put({ at, type, count }: Entry, value: number): void {
    if (count !== 1 || (type !== SHORT && type !== LONG)) return;
    this.#write(this.bytes, value, at + 8, type === SHORT ? 2 : 4);
  }

  #range({ at, count }: Entry): readonly [start: number, end: number] {
    const start = count <= 4 ? at + 8 : this.u32(at + 8);
    return [start, Math.min(start + count, this.bytes.length)];
  }

  text(entry: Entry): string {
    return entry.type === ASCII ? this.bytes.toString("latin1", ...this.#range(entry)) : "";
  }

  clear(entry: Entry): void {
    const [start, end] = this.#range(entry);
    if (start >= 8 && start < end) this.bytes.fill(0, start, end);
  }

  // The folder after the main one is of the thumbnail, which shows the original: its bytes go too.
  endAfter(folder: number): void {
    if (folder < 8 || folder + 2 > this.bytes.length) return;
    const end = folder + 2 + this.u16(folder) * ENTRY_BYTES;
    if (end + 4 > this.bytes.length) return;
    const [place, length] = [0x0201, 0x0202].map((tag) => {
      const entry = [...this.entries(this.u32(end))].find((each) => each.tag === tag);
      return entry === undefined ? 0 : this.value(entry);
    });
    if (place! >= 8 && place! + length! <= this.bytes.length) this.bytes.fill(0, place!, place! + length!);
    this.#write(this.bytes, 0, end, 4);
  }

  // The main folder again behind the block, with one more entry: all others still point where they did.
  withText(folder: number, tag: number, text: string): Buffer {
    const kept = [...this.entries(folder)]
      .filter((entry) => entry.tag !== tag)
      .map((entry) => ({ tag: entry.tag, bytes: this.bytes.subarray(entry.at, entry.at + ENTRY_BYTES) }));
    const start = this.bytes.length + (this.bytes.length % 2);
    const body = Buffer.from(`${text}\0`, "latin1");
    const textAt = start + 2 + (kept.length + 1) * ENTRY_BYTES + 4;
    const own = Buffer.alloc(ENTRY_BYTES);
    this.#write(own, tag, 0, 2);
    this.#write(own, ASCII, 2, 2);
    this.#write(own, body.length, 4, 4);
    this.#write(own, textAt, 8, 4);
    const entries = [...kept, { tag, bytes: own }].sort((a, b) => a.tag - b.tag);
    const count = Buffer.alloc(2);
    this.#write(count, entries.length, 0, 2);
    const front = Buffer.alloc(start);
    this.bytes.copy(front);
    this.#write(front, start, 4, 4);
    return Buffer.concat([front, count, ...entries.map(({ bytes }) => bytes), Buffer.alloc(4), body]);
  }
}

function blockOf(bytes: Buffer): Buffer | undefined {
  if (bytes.toString("latin1", 1, 4) === "PNG") return pngBlock(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegBlock(bytes);
  if (bytes.toString("latin1", 8, 12) === "WEBP") return webpBlock(bytes);
  return bytes.toString("latin1", 4, 8) === "ftyp" ? heifExif(bytes) : undefined;
}

function pngBlock(bytes: Buffer): Buffer | undefined {
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + bytes.readUInt32BE(at);
    if (end > bytes.length) return undefined;
    if (bytes.toString("latin1", at + 4, at + 8) === "eXIf") return bytes.subarray(at + 8, end - 4);
    at = end;
  }
  return undefined;
}

function jpegBlock(bytes: Buffer): Buffer | undefined {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const end = at + 2 + bytes.readUInt16BE(at + 2);
    const body = bytes.subarray(at + 4, end);
    if (bytes[at + 1] === 0xe1 && body.toString("latin1", 0, EXIF_SIGNATURE.length) === EXIF_SIGNATURE) return body;
    at = end;
  }
  return undefined;
}

function webpBlock(bytes: Buffer): Buffer | undefined {
  for (let at = 12; at + 8 <= bytes.length; ) {
    const end = at + 8 + bytes.readUInt32LE(at + 4);
    if (bytes.toString("latin1", at, at + 4) === "EXIF") return bytes.subarray(at + 8, end);
    at = end + (end % 2);
  }
  return undefined;
}
