// Reads BMP files, as Pillow does: 1 to 32 bits, palettes, run lengths, bit fields; alpha is dropped. (The packages that read BMP give wrong colours for
// palettes.) Format: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage
import { CHANNELS, type Image, type Size } from "../image.js";

const FILE_HEADER = 14;
const OS2_HEADER = 12;
const INFO_HEADER = 40;

const COMPRESSION = { none: 0, rle8: 1, rle4: 2, bitFields: 3, alphaBitFields: 6 };

interface Header extends Size {
  readonly bits: number;
  readonly compression: number;
  /** Whether the first row of the file is the upper one. */
  readonly isTopDown: boolean;
  readonly headerLength: number;
  readonly paletteColours: number;
  /** Where the pixels begin. */
  readonly start: number;
}

/** Whether bytes are of a BMP file. */
export function isBmp(bytes: Buffer): boolean {
  return bytes.length > FILE_HEADER + OS2_HEADER && bytes.toString("latin1", 0, 2) === "BM" && bytes[15] === 0;
}

/** Width and height, from the header. Throws an Error for one that cannot be. */
export function bmpSize(bytes: Buffer): Size {
  const { width, height } = headerOf(bytes);
  return { width, height };
}

/** The picture of a BMP file. Throws an Error with the reason for one that is damaged, cut off, or of a kind that is not read. */
export function decodeBmp(bytes: Buffer): Image {
  const header = headerOf(bytes);
  const { width, height, bits, compression } = header;
  const data = new Uint8Array(width * height * CHANNELS);
  if (bits <= 8) {
    const indexes = compression === COMPRESSION.none ? plainIndexes(bytes, header) : runLengths(bytes, header);
    const palette = paletteOf(bytes, header);
    for (let i = 0; i < indexes.length; i++) data.set(palette[indexes[i]!] ?? [0, 0, 0], i * CHANNELS);
    return { width, height, data };
  }
  const fields = fieldsOf(bytes, header);
  const stride = strideOf(header);
  const step = bits / 8;
  for (let y = 0; y < height; y++) {
    const row = header.start + fileRow(header, y) * stride;
    for (let x = 0; x < width; x++) {
      const value = bytes.readUIntLE(row + x * step, step);
      for (let channel = 0; channel < CHANNELS; channel++) {
        const { shift, most } = fields[channel]!;
        data[(y * width + x) * CHANNELS + channel] = Math.floor((((value >>> shift) & most) * 255) / most);
      }
    }
  }
  return { width, height, data };
}

function headerOf(bytes: Buffer): Header {
  const headerLength = bytes.readUInt32LE(14);
  const isOs2 = headerLength === OS2_HEADER;
  if ((!isOs2 && headerLength < INFO_HEADER) || FILE_HEADER + headerLength > bytes.length)
    throw new Error("its header is cut off");
  const height = isOs2 ? bytes.readUInt16LE(20) : bytes.readInt32LE(22);
  const header = {
    width: isOs2 ? bytes.readUInt16LE(18) : bytes.readInt32LE(18),
    height: Math.abs(height),
    bits: bytes.readUInt16LE(isOs2 ? 24 : 28),
    compression: isOs2 ? COMPRESSION.none : bytes.readUInt32LE(30),
    isTopDown: height < 0,
    headerLength,
    paletteColours: isOs2 ? 0 : bytes.readUInt32LE(46),
    start: bytes.readUInt32LE(10),
  };
  if (header.width < 1 || header.height < 1) throw new Error("it has no pixels");
  refuseUnknown(header);
  const isPacked = header.compression === COMPRESSION.rle8 || header.compression === COMPRESSION.rle4;
  const length = isPacked ? 1 : strideOf(header) * header.height;
  if (header.start + length > bytes.length) throw new Error("it is cut off");
  return header;
}

function refuseUnknown({ bits, compression }: Header): void {
  const { none, rle8, rle4, bitFields, alphaBitFields } = COMPRESSION;
  const allowed: Readonly<Record<number, readonly number[]>> = {
    1: [none],
    4: [none, rle4],
    8: [none, rle8],
    16: [none, bitFields, alphaBitFields],
    24: [none],
    32: [none, bitFields, alphaBitFields],
  };
  if (!allowed[bits]?.includes(compression))
    throw new Error(`BMP of ${bits} bits and compression ${compression} is not supported`);
}

// Rows begin at multiples of four bytes.
function strideOf({ width, bits }: Pick<Header, "width" | "bits">): number {
  return Math.ceil((width * bits) / 32) * 4;
}

function fileRow({ height, isTopDown }: Header, y: number): number {
  return isTopDown ? y : height - 1 - y;
}

function plainIndexes(bytes: Buffer, header: Header): Uint8Array {
  const { width, height, bits } = header;
  const indexes = new Uint8Array(width * height);
  const perByte = 8 / bits;
  for (let y = 0; y < height; y++) {
    const row = header.start + fileRow(header, y) * strideOf(header);
    for (let x = 0; x < width; x++) {
      const byte = bytes[row + Math.floor(x / perByte)]!;
      indexes[y * width + x] = (byte >> (8 - bits * ((x % perByte) + 1))) & (2 ** bits - 1);
    }
  }
  return indexes;
}

// Pairs of a count and a value; a count of 0 is followed by 0 (end of the row), 1 (end), 2 (a step to the right and up), or a count of plain values.
function runLengths(bytes: Buffer, header: Header): Uint8Array {
  const { width, height, bits } = header;
  const indexes = new Uint8Array(width * height);
  let [x, row] = [0, 0];
  const put = (index: number) => {
    if (x < width && row < height) indexes[fileRow(header, row) * width + x] = index;
    x++;
  };
  const part = (byte: number, i: number) => (bits === 8 ? byte : i % 2 === 0 ? byte >> 4 : byte & 15);
  for (let at = header.start; row < height; ) {
    if (at + 2 > bytes.length) throw new Error("it is cut off");
    const [count, value] = [bytes[at]!, bytes[at + 1]!];
    at += 2;
    if (count > 0) for (let i = 0; i < count; i++) put(part(value, i));
    else if (value === 0) [x, row] = [0, row + 1];
    else if (value === 1) break;
    else if (value === 2) {
      if (at + 2 > bytes.length) throw new Error("it is cut off");
      [x, row] = [x + bytes[at]!, row + bytes[at + 1]!];
      at += 2;
    } else {
      const length = Math.ceil((value * bits) / 8);
      if (at + length > bytes.length) throw new Error("it is cut off");
      for (let i = 0; i < value; i++) put(part(bytes[at + (bits === 8 ? i : i >> 1)]!, i));
      // Plain values end at even offsets.
      at += length + (length % 2);
    }
  }
  return indexes;
}

function paletteOf(bytes: Buffer, { bits, headerLength, paletteColours, start }: Header): readonly number[][] {
  const step = headerLength === OS2_HEADER ? 3 : 4;
  const first = FILE_HEADER + headerLength;
  const count = Math.min(
    paletteColours === 0 ? 2 ** bits : paletteColours,
    2 ** bits,
    Math.floor((start - first) / step),
  );
  return Array.from({ length: Math.max(count, 0) }, (_, i) => {
    const at = first + i * step;
    return [bytes[at + 2]!, bytes[at + 1]!, bytes[at]!];
  });
}

interface Field {
  readonly shift: number;
  /** Largest value. */
  readonly most: number;
}

function fieldsOf(bytes: Buffer, { bits, compression, headerLength }: Header): readonly Field[] {
  if (compression === COMPRESSION.none)
    return bits === 16
      ? [10, 5, 0].map((shift) => ({ shift, most: 31 }))
      : [16, 8, 0].map((shift) => ({ shift, most: 255 }));
  // Behind the header, or the first that a longer one holds.
  const at = FILE_HEADER + INFO_HEADER;
  if (headerLength < INFO_HEADER || at + 12 > bytes.length) throw new Error("its bit fields are cut off");
  return [0, 4, 8].map((offset) => {
    const mask = bytes.readUInt32LE(at + offset);
    const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
    const most = mask >>> shift;
    if (most < 1 || most > 0xffff || (most & (most + 1)) !== 0) throw new Error("its bit fields make no sense");
    return { shift, most };
  });
}
