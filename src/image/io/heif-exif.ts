// The EXIF block of a HEIC or AVIF file: an item that two tables of its meta box find. Files may be hostile: every place is checked against the file.
// Format: ISO/IEC 14496-12 (8.11.3, 8.11.6), ISO/IEC 23008-12 (A.2.1)

/** Boxes and items that are looked at, more than any camera writes. */
const MOST = 10_000;

/** The TIFF structure of the EXIF block; undefined where the file has none, or not in one piece. Never throws. */
export function heifExif(bytes: Buffer): Buffer | undefined {
  try {
    const meta = boxOf(bytes, "meta");
    // Version and flags stand in front.
    const inside = meta?.subarray(4);
    const id = inside && exifItem(boxOf(inside, "iinf"));
    const place = id === undefined ? undefined : placeOf(boxOf(inside!, "iloc"), id);
    if (place === undefined || place.start + place.length > bytes.length) return undefined;
    const block = bytes.subarray(place.start, place.start + place.length);
    return block.subarray(4 + block.readUInt32BE(0));
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The first box at a path below the meta box of a file; undefined where there is none. Never throws. */
export function heifBox(bytes: Buffer, path: readonly string[]): Buffer | undefined {
  try {
    // Version and flags stand in front.
    let found = boxOf(bytes, "meta")?.subarray(4);
    for (const type of path) found = found && boxOf(found, type);
    return found;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function boxOf(bytes: Buffer, wanted: string): Buffer | undefined {
  for (const { type, body } of boxes(bytes)) if (type === wanted) return body;
  return undefined;
}

function* boxes(bytes: Buffer): Iterable<{ readonly type: string; readonly body: Buffer }> {
  for (let at = 0, count = 0; at + 8 <= bytes.length && count < MOST; count++) {
    const short = bytes.readUInt32BE(at);
    const length = short === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : short === 0 ? bytes.length - at : short;
    const head = short === 1 ? 16 : 8;
    if (length < head) return;
    yield { type: bytes.toString("latin1", at + 4, at + 8), body: bytes.subarray(at + head, at + length) };
    at += length;
  }
}

function exifItem(iinf: Buffer | undefined): number | undefined {
  if (iinf === undefined) return undefined;
  for (const { type, body } of boxes(iinf.subarray(iinf[0] === 0 ? 6 : 8))) {
    if (type !== "infe" || body[0]! < 2) continue;
    const isLong = body[0] === 3;
    const name = isLong ? 10 : 8;
    if (body.toString("latin1", name, name + 4) === "Exif") return isLong ? body.readUInt32BE(4) : body.readUInt16BE(4);
  }
  return undefined;
}

function placeOf(iloc: Buffer | undefined, wanted: number): { start: number; length: number } | undefined {
  if (iloc === undefined) return undefined;
  const version = iloc[0]!;
  const [offsetSize, lengthSize] = [iloc[4]! >> 4, iloc[4]! & 15];
  const [baseSize, indexSize] = [iloc[5]! >> 4, version === 0 ? 0 : iloc[5]! & 15];
  let at = 6;
  const take = (size: number): number => {
    const value = size === 0 ? 0 : size === 8 ? Number(iloc.readBigUInt64BE(at)) : iloc.readUIntBE(at, size);
    at += size;
    return value;
  };
  const idSize = version < 2 ? 2 : 4;
  const count = Math.min(take(idSize), MOST);
  for (let item = 0; item < count; item++) {
    const id = take(idSize);
    const method = version === 0 ? 0 : take(2) & 15;
    take(2);
    const base = take(baseSize);
    const extents = take(2);
    if (id === wanted && (extents !== 1 || method !== 0)) return undefined;
    for (let extent = 0; extent < extents; extent++) {
      take(indexSize);
      const [start, length] = [base + take(offsetSize), take(lengthSize)];
      if (id === wanted) return { start, length };
    }
  }
  return undefined;
}
