// Texts that picture files carry, our recipes and other tools' among them: PNG text chunks, EXIF and XMP of PNG, JPEG and WebP, JPEG comments.
// Files may be hostile: every length is checked against the file, and nothing inflates beyond a limit.
// https://www.w3.org/TR/png-3/#11textinfo, https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.1), https://developers.google.com/speed/webp/docs/riff_container
import { inflateSync } from "node:zlib";
import { exifTexts } from "./exif.js";

/** A text with the name that its place in the file gives it: a PNG keyword, an EXIF tag, `XMP description`, `comment`. */
export interface PictureText {
  readonly keyword: string;
  readonly text: string;
}

/** Keyword of the recipe in PNG, and of the numbered comments that a long one takes in JPEG. */
export const DESCRIPTION_KEYWORD = "qedit";

/** Bytes of all texts of a picture together, and of each: workflows of other tools reach some megabytes. */
const MOST_BYTES = 32 * 1024 ** 2;
const LONGEST_TEXT = 16 * 1024 ** 2;

/** More texts than any tool writes; the rest is not looked at. */
const MOST_TEXTS = 1000;

/** Bytes of a PNG keyword, by the standard. */
const LONGEST_KEYWORD = 79;

const PNG_SIGNATURE = "\x89PNG\r\n\x1a\n";
const EXIF_SIGNATURE = "Exif\0\0";
const XMP_SIGNATURE = "http://ns.adobe.com/xap/1.0/\0";

/** The texts of a PNG, JPEG or WebP file in order, of a damaged one those in front of the damage; none for other formats. Never throws. */
export function pictureTexts(file: Uint8Array): PictureText[] {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const texts: PictureText[] = [];
  for (const text of textsOf(bytes, new Budget())) {
    if (texts.push(text) >= MOST_TEXTS) break;
  }
  return joinedComments(texts);
}

/** What the texts of a picture may still take. A text that is too long costs what was spent on finding that out. */
class Budget {
  #left = MOST_BYTES;

  /** Whether a text of so many bytes is read. */
  readonly take = (bytes: number): boolean => {
    if (bytes > this.limit) return false;
    this.#left -= bytes;
    return true;
  };

  /** The longest text that is read now. */
  get limit(): number {
    return Math.min(this.#left, LONGEST_TEXT);
  }

  inflated(bytes: Buffer, encoding: "latin1" | "utf8"): string | undefined {
    const { limit } = this;
    if (limit === 0) return undefined;
    try {
      const inflated = inflateSync(bytes, { maxOutputLength: limit });
      this.take(inflated.length);
      return inflated.toString(encoding);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") this.take(limit);
      return undefined;
    }
  }

  plain(bytes: Buffer, encoding: "latin1" | "utf8"): string | undefined {
    return this.take(bytes.length) ? bytes.toString(encoding) : undefined;
  }
}

function textsOf(bytes: Buffer, budget: Budget): Iterable<PictureText> {
  if (bytes.toString("latin1", 0, 8) === PNG_SIGNATURE) return pngTexts(bytes, budget);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegTexts(bytes, budget);
  if (bytes.toString("latin1", 0, 4) === "RIFF" && bytes.toString("latin1", 8, 12) === "WEBP")
    return webpTexts(bytes, budget);
  return [];
}

function* pngTexts(bytes: Buffer, budget: Budget): Iterable<PictureText> {
  for (let at = PNG_SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const type = bytes.toString("latin1", at + 4, at + 8);
    if (at + 12 + length > bytes.length || type === "IEND") return;
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (type === "eXIf") yield* exifTexts(body, budget.take);
    else if (type === "tEXt" || type === "zTXt" || type === "iTXt") yield* pngText(type, body, budget);
    at += 12 + length;
  }
}

function* pngText(type: "tEXt" | "zTXt" | "iTXt", body: Buffer, budget: Budget): Iterable<PictureText> {
  const end = body.indexOf(0);
  if (end < 1 || end > LONGEST_KEYWORD) return;
  const keyword = body.toString("latin1", 0, end);
  const text =
    type === "iTXt"
      ? internationalText(body.subarray(end + 1), budget)
      : type === "zTXt"
        ? budget.inflated(body.subarray(end + 2), "latin1")
        : budget.plain(body.subarray(end + 1), "latin1");
  if (text === undefined) return;
  if (keyword === "XML:com.adobe.xmp") yield* xmpTexts(text);
  else yield { keyword, text };
}

// Flag and method of compression, language, translated keyword, then the text.
function internationalText(rest: Buffer, budget: Budget): string | undefined {
  const language = rest.indexOf(0, 2);
  const translated = language < 0 ? -1 : rest.indexOf(0, language + 1);
  if (translated < 0) return undefined;
  const text = rest.subarray(translated + 1);
  return rest[0] === 1 ? budget.inflated(text, "utf8") : budget.plain(text, "utf8");
}

function* jpegTexts(bytes: Buffer, budget: Budget): Iterable<PictureText> {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1]!;
    // A marker may be padded in front.
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    const length = bytes.readUInt16BE(at + 2);
    // Behind the start of scan come pixels.
    if (marker === 0xda || length < 2 || at + 2 + length > bytes.length) return;
    const body = bytes.subarray(at + 4, at + 2 + length);
    const isOf = (kind: number, signature: string) => marker === kind && startsWith(body, signature);
    if (marker === 0xfe && budget.take(body.length)) yield { keyword: "comment", text: body.toString("utf8") };
    else if (isOf(0xe1, EXIF_SIGNATURE)) yield* exifTexts(body.subarray(EXIF_SIGNATURE.length), budget.take);
    else if (isOf(0xe1, XMP_SIGNATURE) && budget.take(body.length))
      yield* xmpTexts(body.toString("utf8", XMP_SIGNATURE.length));
    at += 2 + length;
  }
}

function* webpTexts(bytes: Buffer, budget: Budget): Iterable<PictureText> {
  for (let at = 12; at + 8 <= bytes.length; ) {
    const type = bytes.toString("latin1", at, at + 4);
    const length = bytes.readUInt32LE(at + 4);
    if (at + 8 + length > bytes.length) return;
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (type === "EXIF")
      yield* exifTexts(startsWith(body, EXIF_SIGNATURE) ? body.subarray(EXIF_SIGNATURE.length) : body, budget.take);
    else if (type === "XMP " && budget.take(length)) yield* xmpTexts(body.toString("utf8"));
    // Chunks begin at even offsets.
    at += 8 + length + (length % 2);
  }
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function* xmpTexts(xml: string): Iterable<PictureText> {
  const opening = xml.indexOf("<dc:description");
  const closing = xml.indexOf("</dc:description>", opening);
  if (opening < 0 || closing < 0) return;
  const item = xml.indexOf("<rdf:li", opening);
  const start = xml.indexOf(">", item) + 1;
  const end = xml.indexOf("</rdf:li>", start);
  if (item < 0 || start < 1 || end < 0 || end > closing) return;
  yield {
    keyword: "XMP description",
    text: xml.slice(start, end).replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => ENTITIES[name]!),
  };
}

// A text too long for one JPEG segment: comments `qedit 1/3\0…`, `qedit 2/3\0…`, …
function joinedComments(texts: readonly PictureText[]): PictureText[] {
  const part = new RegExp(`^${DESCRIPTION_KEYWORD} \\d+/\\d+\0`);
  const parts = texts.filter(({ keyword, text }) => keyword === "comment" && part.test(text));
  if (parts.length === 0) return [...texts];
  const text = parts.map((each) => each.text.replace(part, "")).join("");
  return [{ keyword: DESCRIPTION_KEYWORD, text }, ...texts.filter((each) => !parts.includes(each))];
}

function startsWith(bytes: Buffer, signature: string): boolean {
  return bytes.toString("latin1", 0, signature.length) === signature;
}
