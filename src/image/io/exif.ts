// The texts of an EXIF block: a TIFF structure with offsets that may point anywhere, so every one is checked.
// https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf (4.6)

const ASCII = 2;
const TEXT_TAGS: Readonly<Record<number, string>> = {
  270: "ImageDescription",
  271: "Make",
  272: "Model",
  305: "Software",
  315: "Artist",
};
const EXIF_FOLDER = 0x8769;
const USER_COMMENT = 0x9286;
/** What the first 8 bytes of a user comment say of the rest. */
const UNICODE = "UNICODE\0";

const ENTRY_BYTES = 12;

const ORIENTATION = 0x0112;
const SHORT = 3;

/** Entries of a folder that are looked at, more than any camera writes: each may point at the same bytes. */
const MOST_ENTRIES = 500;

/** A text of an EXIF block, by the name of its tag. */
export interface ExifText {
  readonly keyword: string;
  readonly text: string;
}

/** Texts of the main folder, and the user comment of the one below it, as long as `take` allows their bytes. Damaged entries are left out. */
export function* exifTexts(tiff: Buffer, take: (bytes: number) => boolean): Iterable<ExifText> {
  const view = viewOf(tiff);
  if (view === undefined) return;
  let below: number | undefined;
  for (const { tag, type, body } of entries(view, u32(view, 4))) {
    const name = TEXT_TAGS[tag];
    if (name !== undefined && type === ASCII && take(body.length)) yield { keyword: name, text: untilZero(body) };
    if (tag === EXIF_FOLDER && body.length >= 4) below ??= view.isLittle ? body.readUInt32LE() : body.readUInt32BE();
  }
  if (below === undefined) return;
  for (const { tag, body } of entries(view, below)) {
    if (tag === USER_COMMENT && take(body.length)) yield { keyword: "UserComment", text: userComment(body, view) };
  }
}

/** How the picture is to be turned, 1 to 8; 1, as it is, where the block does not say. */
export function exifOrientation(tiff: Buffer): number {
  const view = viewOf(tiff);
  if (view === undefined) return 1;
  for (const { tag, type, body } of entries(view, u32(view, 4))) {
    if (tag !== ORIENTATION || type !== SHORT || body.length < 2) continue;
    const value = view.isLittle ? body.readUInt16LE() : body.readUInt16BE();
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** An EXIF block that holds nothing but an orientation. */
export function orientationBlock(orientation: number): Buffer {
  const block = Buffer.alloc(26);
  block.write("II*\0", 0, "latin1");
  block.writeUInt32LE(8, 4);
  block.writeUInt16LE(1, 8);
  block.writeUInt16LE(ORIENTATION, 10);
  block.writeUInt16LE(SHORT, 12);
  block.writeUInt32LE(1, 14);
  block.writeUInt16LE(orientation, 18);
  return block;
}

function viewOf(tiff: Buffer): View | undefined {
  const order = tiff.toString("latin1", 0, 2);
  return tiff.length < 8 || (order !== "II" && order !== "MM") ? undefined : { tiff, isLittle: order === "II" };
}

interface View {
  readonly tiff: Buffer;
  readonly isLittle: boolean;
}

interface Entry {
  readonly tag: number;
  readonly type: number;
  readonly body: Buffer;
}

/** Bytes of one value by TIFF type. */
const VALUE_BYTES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];

function* entries(view: View, folder: number): Iterable<Entry> {
  const { tiff } = view;
  if (folder + 2 > tiff.length) return;
  const count = Math.min(u16(view, folder), MOST_ENTRIES);
  for (let i = 0, at = folder + 2; i < count && at + ENTRY_BYTES <= tiff.length; i++, at += ENTRY_BYTES) {
    const type = u16(view, at + 2);
    const length = u32(view, at + 4) * (VALUE_BYTES[type] ?? 0);
    // Up to four bytes lie in the entry itself.
    const start = length <= 4 ? at + 8 : u32(view, at + 8);
    if (length > 0 && start + length <= tiff.length)
      yield { tag: u16(view, at), type, body: tiff.subarray(start, start + length) };
  }
}

function userComment(body: Buffer, { isLittle }: View): string {
  const text = body.subarray(UNICODE.length);
  if (body.toString("latin1", 0, UNICODE.length) !== UNICODE) return untilZero(text);
  const even = Buffer.from(text.subarray(0, text.length & ~1));
  // Tools disagree on the order: mostly zero first bytes are big-endian, whatever the file says.
  const isBigEndian = even.length > 1 && (even[0] === 0 || (even[1] !== 0 && !isLittle));
  const written = (isBigEndian ? even.swap16() : even).toString("utf16le");
  // Not by /\0+$/, whose time grows with the square of a row of zeros.
  let end = written.length;
  while (written[end - 1] === "\0") end -= 1;
  return written.slice(0, end);
}

function untilZero(body: Buffer): string {
  const end = body.indexOf(0);
  return body.toString("utf8", 0, end < 0 ? body.length : end);
}

function u16({ tiff, isLittle }: View, at: number): number {
  return isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at);
}

function u32({ tiff, isLittle }: View, at: number): number {
  return isLittle ? tiff.readUInt32LE(at) : tiff.readUInt32BE(at);
}
