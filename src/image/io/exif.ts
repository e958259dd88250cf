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

/** A text of an EXIF block, by the name of its tag. */
export interface ExifText {
  readonly keyword: string;
  readonly text: string;
}

/** Texts of the main folder, and the user comment of the one below it. Damaged entries are left out. */
export function* exifTexts(tiff: Buffer): Iterable<ExifText> {
  const order = tiff.toString("latin1", 0, 2);
  if (tiff.length < 8 || (order !== "II" && order !== "MM")) return;
  const view = { tiff, isLittle: order === "II" };
  for (const { tag, type, body } of entries(view, u32(view, 4))) {
    const name = TEXT_TAGS[tag];
    if (name !== undefined && type === ASCII) yield { keyword: name, text: untilZero(body) };
    if (tag !== EXIF_FOLDER || body.length < 4) continue;
    for (const below of entries(view, view.isLittle ? body.readUInt32LE() : body.readUInt32BE())) {
      if (below.tag === USER_COMMENT) yield { keyword: "UserComment", text: userComment(below.body, view) };
    }
  }
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
  const count = u16(view, folder);
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
  return (isBigEndian ? even.swap16() : even).toString("utf16le").replace(/\0+$/, "");
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
