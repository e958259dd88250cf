// Forms as clients send them (RFC 7578), from a body that is in memory: names quoted or not, `filename*` of RFC 8187, text before the first boundary and
// after the last. What is damaged is refused and never left out, which libraries for streams do.
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { shown } from "../../std/foreign-text.js";
import { HttpError } from "./http-error.js";

/** A text or a file of a form; a file's name is what the client wrote. */
export interface FormPart {
  readonly name: string;
  readonly value: string | NamedBytes;
}

/** A file of a form. */
export interface FilePart extends FormPart {
  readonly value: NamedBytes;
}

/** Parts of a form; a picture and a mask and each parameter a few times. */
const MOST_PARTS = 500;
/** Bytes of the header lines of a part; those of clients have some hundreds. */
const LONGEST_HEADERS = 16 * 1024;
const LINE = "\r\n";
const [CR, LF, HYPHEN, SPACE, TAB] = Buffer.from("\r\n- \t") as unknown as readonly number[];
/** Spaces behind a boundary; RFC 2046 lets gateways add some. */
const MOST_PADDING = 98;
/** RFC 2046. */
const BOUNDARY = /^[\w'()+,./:=? -]{1,70}$/;
const HEADER = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([^\r\n\0]*)$/;
/** `; name="value"`, `; name=value`. A quote inside is `\"` or, as browsers write it, `%22`; other backslashes are themselves. */
const PARAMETER = /\s*;\s*([\w-]+\*?)\s*=\s*(?:"((?:[^"\\]|\\"|\\)*)"(?=\s*(?:;|$))|([^\s";]+))/y;
/** What may stand behind the last parameter; looked for from the end, since an expression for all of it would try every place. */
const SEPARATOR = /[;\s]/;
/** Encodings that leave bytes as they are. */
const PLAIN = ["7bit", "8bit", "binary"];

/** Reads the parts of a body of this content type. Throws HttpError 400. */
export function readMultipart(body: Buffer, contentType: string): readonly FormPart[] {
  const boundary = parametersOf(contentType.replace(/^[^;]*/, ""))?.get("boundary") ?? "";
  if (!BOUNDARY.test(boundary)) throw damaged();
  const line = Buffer.from(`${LINE}--${boundary}`);
  const parts: FormPart[] = [];
  for (let delimiter = nextDelimiter(body, line, 0); !delimiter.isLast; ) {
    if (parts.length >= MOST_PARTS)
      throw new HttpError(400, "invalid_request", `The form has more than ${MOST_PARTS} parts`);
    // A part may be empty: its line break is then the delimiter's.
    const next = nextDelimiter(body, line, delimiter.end - LINE.length);
    parts.push(partOf(body.subarray(delimiter.end, next.start)));
    delimiter = next;
  }
  return parts;
}

interface Delimiter {
  /** Of its line break, which is no part of what stands before it. */
  readonly start: number;
  /** Behind its line. */
  readonly end: number;
  readonly isLast: boolean;
}

function nextDelimiter(body: Buffer, line: Buffer, from: number): Delimiter {
  for (let at = from; ; ) {
    // The first may begin the body.
    const isFirst = at === 0 && startsWith(body, line.subarray(LINE.length));
    const start = isFirst ? -LINE.length : indexOfLine(body, line, at);
    if (!isFirst && start < 0) throw damaged();
    const behind = start + line.length;
    // `--` ends the form, whatever follows it; any other line that only begins like a boundary is none.
    if (body[behind] === HYPHEN && body[behind + 1] === HYPHEN) return { start, end: behind, isLast: true };
    let end = behind;
    while (end - behind < MOST_PADDING && (body[end] === SPACE || body[end] === TAB)) end += 1;
    if (body[end] === CR && body[end + 1] === LF) return { start, end: end + LINE.length, isLast: false };
    at = behind;
  }
}

// One pass, since a boundary has no line break inside. A call of the buffer's own search for each line takes most of the time where all begin like a boundary.
function indexOfLine(body: Buffer, line: Buffer, from: number): number {
  for (let at = from; at < body.length; ) {
    while (at < body.length && body[at] !== CR) at += 1;
    let matched = 1;
    while (matched < line.length && body[at + matched] === line[matched]) matched += 1;
    if (matched === line.length) return at;
    at += matched;
  }
  return -1;
}

function startsWith(body: Buffer, bytes: Buffer): boolean {
  return body.length >= bytes.length && body.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

function partOf(bytes: Buffer): FormPart {
  // Without headers it begins with the empty line.
  const end = bytes.indexOf(`${LINE}${LINE}`);
  if (end < 0 || end > LONGEST_HEADERS) throw damaged();
  const headers = headersOf(utf8(bytes.subarray(0, end)) ?? refuseText("a header of the form"));
  const disposition = /^form-data(?=\s*;)/i.exec(headers.get("content-disposition") ?? "");
  const parameters = disposition && parametersOf(disposition.input.slice(disposition[0].length));
  const name = parameters?.get("name");
  if (!parameters || name === undefined || !PLAIN.includes(headers.get("content-transfer-encoding") ?? "binary"))
    throw damaged();
  const content = bytes.subarray(end + 2 * LINE.length);
  const file = parameters.get("filename");
  // A copy, which does not keep the whole body in memory.
  if (file !== undefined) return { name, value: { name: file, bytes: new Uint8Array(content) } };
  const text = utf8(content) ?? refuseText(`"${shown(name)}"`, name);
  // Browsers and fetch send each line break as CRLF. https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
  return { name, value: text.replaceAll(LINE, "\n") };
}

function headersOf(text: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const line of text.split(LINE)) {
    const [, name, value] = HEADER.exec(line) ?? [];
    if (name === undefined || headers.has(name.toLowerCase())) throw damaged();
    headers.set(name.toLowerCase(), value!.trim());
  }
  return headers;
}

// undefined for what is not written as parameters are, or names one twice. `filename*` counts before `filename`, which says it worse.
function parametersOf(text: string): ReadonlyMap<string, string> | undefined {
  const found = new Map<string, string>();
  const pattern = new RegExp(PARAMETER);
  let { length } = text;
  while (length > 0 && SEPARATOR.test(text[length - 1]!)) length -= 1;
  while (pattern.lastIndex < length) {
    const [, name, quoted, token] = pattern.exec(text) ?? [];
    const value = name?.endsWith("*") ? extended(token) : (unescaped(quoted) ?? token);
    const key = name?.toLowerCase();
    if (key === undefined || value === undefined || found.has(key)) return undefined;
    found.set(key, value);
  }
  for (const [key, value] of found) if (key.endsWith("*")) found.set(key.slice(0, -1), value);
  return found;
}

// As browsers escape what would end the name.
function unescaped(quoted: string | undefined): string | undefined {
  return quoted?.replaceAll('\\"', '"').replace(/%(22|0A|0D)/gi, (escape) => decodeURIComponent(escape));
}

// UTF-8''%e2%82%ac; undefined for other charsets.
function extended(value = ""): string | undefined {
  const encoded = /^utf-8'[\w-]*'(.*)$/i.exec(value)?.[1];
  try {
    return encoded === undefined ? undefined : decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function refuseText(what: string, parameter?: string): never {
  throw new HttpError(400, "invalid_request", `Cannot use ${what}: it is no UTF-8`, {
    hint: "Send texts in UTF-8",
    ...(parameter !== undefined && { parameter: shown(parameter) }),
  });
}

function damaged(): HttpError {
  return new HttpError(400, "invalid_request", "The form cannot be read: its parts or boundaries are damaged");
}
