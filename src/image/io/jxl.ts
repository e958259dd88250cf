// The header of JPEG XL: the size, before anything is decoded. Format: ISO/IEC 18181-1 (D.2), -2 (9).
import type { Size } from "../image.js";

const CODESTREAM = "\xff\x0a";
const CONTAINER = "\0\0\0\x0cJXL \r\n\x87\n";

/** Bits of a side, by a selector of two bits. */
const SIDE_BITS = [9, 13, 18, 30];

/** Width over height by the header's ratio, from 1 on. */
const RATIOS = [
  [1, 1],
  [12, 10],
  [4, 3],
  [3, 2],
  [16, 9],
  [5, 4],
  [2, 1],
] as const;

/** Whether bytes are of a JPEG XL file. */
export function isJxl(bytes: Buffer): boolean {
  return bytes.toString("latin1", 0, 2) === CODESTREAM || bytes.toString("latin1", 0, 12) === CONTAINER;
}

/** Width and height as stored; a picture that is turned has them exchanged. Throws an Error for a header that is cut off. */
export function jxlSize(bytes: Buffer): Size {
  const read = bitReader(codestream(bytes).subarray(2));
  const isSmall = read(1) === 1;
  const side = () => (isSmall ? (read(5) + 1) * 8 : read(SIDE_BITS[read(2)]!) + 1);
  const height = side();
  const ratio = read(3);
  if (ratio === 0) return turned({ width: side(), height }, read);
  const [across, down] = RATIOS[ratio - 1]!;
  return turned({ width: Math.floor((height * across) / down), height }, read);
}

// Metadata follow: all default, or extra fields of which the first is the orientation, 5 to 8 of which exchange the sides.
function turned({ width, height }: Size, read: (bits: number) => number): Size {
  const isDefault = read(1) === 1;
  const hasMore = !isDefault && read(1) === 1;
  return hasMore && read(3) + 1 > 4 ? { width: height, height: width } : { width, height };
}

// The codestream itself, or the first box of a container that holds some of it.
function codestream(bytes: Buffer): Buffer {
  if (bytes.toString("latin1", 0, 2) === CODESTREAM) return bytes;
  for (let at = 0; at + 16 <= bytes.length; ) {
    const isLong = bytes.readUInt32BE(at) === 1;
    const length = isLong ? Number(bytes.readBigUInt64BE(at + 8)) : bytes.readUInt32BE(at);
    const body = at + (isLong ? 16 : 8);
    const type = bytes.toString("latin1", at + 4, at + 8);
    if (type === "jxlc") return bytes.subarray(body);
    // A part's number stands in front.
    if (type === "jxlp") return bytes.subarray(body + 4);
    if (length < 8) break;
    at += length;
  }
  throw new Error("it holds no picture");
}

function bitReader(bytes: Buffer): (count: number) => number {
  let at = 0;
  return (count) => {
    let value = 0;
    for (let i = 0; i < count; i++, at++) {
      if (at >> 3 >= bytes.length) throw new Error("its header is cut off");
      value += ((bytes[at >> 3]! >> (at & 7)) & 1) * 2 ** i;
    }
    return value;
  };
}
