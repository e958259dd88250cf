// The header of safetensors data: its length, then JSON. Refuses what the format's own implementation refuses, and keys that occur twice:
// https://github.com/huggingface/safetensors/blob/000a16f45cff0d4169ca15b67ea002895234d671/safetensors/src/tensor.rs
import { QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";
import { jsonExcess, stringEnd } from "../../std/json-limits.js";
import type { Checkpoint, StoredTensor, StoredType } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";
import { foreignFormat } from "../foreign.js";
import type { Source } from "../located-file.js";

/** Limit of the format's own implementation, so that a wrong length cannot ask for any amount of memory. */
const MAX_HEADER_BYTES = 100_000_000;
/** A header nests three deep. The largest published ones have some thousand tensors of about 12 entries. */
const HEADER_LIMITS = { depth: 8, entries: 1_000_000 };
/** Limits of JSON in a file's metadata; configurations of adapters list their modules. */
const METADATA_LIMITS = { depth: 32, entries: 200_000 };
/** An unsigned 64-bit length comes before the header. */
export const LENGTH_BYTES = 8;
const OPENING_BRACE = 0x7b;

/** Of a file that ends before its header says. */
const PARTLY = "The file is only partly downloaded: download it again";
/** Of a file that is as long as it says, and is not written as the format wants. */
const MALFORMED = "It was written by a tool that does not keep to the format: compare it with its publisher's";

/** Bytes of the JSON header, checked against the limit and the file; start is the beginning of the file. */
export function headerLength(start: Uint8Array, { name, size }: Source): number {
  if (size === 0) throw refusal(name, "the file is empty", PARTLY);
  if (start[LENGTH_BYTES] !== OPENING_BRACE) {
    const format = foreignFormat(start);
    if (format !== undefined) throw refusal(name, `wanted a .safetensors file, found ${format.found}`, format.hint);
  }
  if (size < LENGTH_BYTES) throw refusal(name, `wanted at least ${LENGTH_BYTES} bytes, found ${size}`, PARTLY);
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  const notOne = "It is no .safetensors file: `qedit inspect` says what a file is";
  if (length > BigInt(MAX_HEADER_BYTES))
    throw refusal(name, `header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`, notOne);
  const isOne = start[LENGTH_BYTES] === OPENING_BRACE || size === LENGTH_BYTES;
  if (length === 0n || !isOne) throw refusal(name, 'the header does not start with "{"', notOne);
  const available = size - LENGTH_BYTES;
  if (length > BigInt(available)) throw refusal(name, `wanted a header of ${length} bytes, found ${available}`, PARTLY);
  return Number(length);
}

/** The tensors that a header names. Throws QEDIT_E_CHECKPOINT when it is not well-formed, or does not fit the data. */
export function parseHeader(bytes: Uint8Array, source: Source): Checkpoint {
  const text = decodeText(bytes);
  if (text === undefined) throw refusal(source.name, "the header is not UTF-8 text");
  const excess = jsonExcess(text, HEADER_LIMITS);
  if (excess !== undefined) throw refusal(source.name, `the header ${excess}`);
  const header = parseJson(text);
  if (!isObject(header)) throw refusal(source.name, "the header is not a JSON object");
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw refusal(source.name, `the header names ${quote(repeated)} twice`);

  const dataStart = LENGTH_BYTES + bytes.length;
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(entries))
    tensors.set(name, parseEntry(name, entry, { source, dataStart }));
  checkCoverage(tensors, { source, dataStart });
  return { file: source.name, tensors, metadata: checkMetadata(metadata, source) };
}

/** The JSON object that a metadata entry holds; undefined when it holds something else, or more than a configuration does. */
export function metadataObject(text: string | undefined): Readonly<Record<string, unknown>> | undefined {
  if (text === undefined || jsonExcess(text, METADATA_LIMITS) !== undefined) return undefined;
  const value = parseJson(text);
  return isObject(value) ? value : undefined;
}

/** Where the data of a file begins, in bytes. */
interface Layout {
  readonly source: Source;
  readonly dataStart: number;
}

function parseEntry(name: string, entry: unknown, { source, dataStart }: Layout): StoredTensor {
  const refuse = (reason: string, hint?: string) => refusal(source.name, `tensor ${quote(name)} ${reason}`, hint);
  if (!isObject(entry)) throw refuse("is not described by a JSON object");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isStoredType(dtype)) {
    const known = "Take the model in a type that qedit knows, such as bf16 or fp8: qedit models pull";
    throw refuse(`has the unknown type ${quote(dtype)}`, known);
  }
  if (!isSizes(shape)) throw refuse(`has the shape ${quote(shape)}, wanted non-negative integers`);
  if (!isSizes(offsets) || offsets.length !== 2)
    throw refuse(`has the data_offsets ${quote(offsets)}, wanted two non-negative integers`);
  const [begin = 0, end = 0] = offsets;
  if (end < begin) throw refuse(`ends at byte ${end}, before its begin ${begin}`);
  const wanted = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
  if (wanted !== end - begin)
    throw refuse(`of ${dtype} [${shape.join(", ")}] wanted ${wanted} bytes, found ${end - begin}`);
  if (dataStart + end > source.size)
    throw refuse(`ends at byte ${dataStart + end}, the file at ${source.size}: it is cut off`, PARTLY);
  return { dtype, shape, file: source.file, offset: dataStart + begin, length: end - begin };
}

/** The tensors must cover the data without overlap, without holes, and to the last byte. */
function checkCoverage(tensors: ReadonlyMap<string, StoredTensor>, { source, dataStart }: Layout): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.length - b.length);
  let covered = dataStart;
  let before = "the header";
  for (const [name, { offset, length }] of ordered) {
    if (offset < covered)
      throw refusal(
        source.name,
        `tensor ${quote(name)} at byte ${offset} overlaps ${before}, which ends at ${covered}`,
      );
    if (offset > covered)
      throw refusal(
        source.name,
        `tensor ${quote(name)} at byte ${offset} leaves a hole after ${before}, which ends at ${covered}`,
      );
    covered = offset + length;
    before = quote(name);
  }
  if (covered !== source.size)
    throw refusal(
      source.name,
      `the tensors end at byte ${covered}, the file at ${source.size}: ${source.size - covered} bytes belong to nothing`,
      `The file is longer than its header says. To use it without them, copy the rest: head -c ${covered} FILE > OTHER.safetensors`,
    );
}

function checkMetadata(metadata: unknown, source: Source): Readonly<Record<string, string>> {
  if (!isObject(metadata)) throw refusal(source.name, '"__metadata__" is not a JSON object');
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string")
      throw refusal(source.name, `metadata ${quote(key)} wanted a string, found ${quote(value)}`);
  }
  return metadata as Record<string, string>;
}

/** The first key that an object of valid JSON holds twice; JSON.parse silently keeps the last. */
function repeatedKey(json: string): string | undefined {
  // The keys of the object open at each depth; a set serves all objects of its depth in turn.
  const keys: Set<string>[] = [];
  let depth = -1;
  const colon = /\s*:/y;
  // Everything that is neither a brace nor a string is skipped.
  for (const next = /[{}"]/g; next.test(json); ) {
    const start = next.lastIndex - 1;
    if (json[start] === "{") (keys[++depth] ??= new Set()).clear();
    else if (json[start] === "}") depth--;
    else {
      next.lastIndex = colon.lastIndex = stringEnd(json, start)! + 1;
      if (!colon.test(json)) continue;
      const written = json.slice(start, next.lastIndex);
      const key = written.includes("\\") ? (JSON.parse(written) as string) : written.slice(1, -1);
      if (keys[depth]?.has(key)) return key;
      keys[depth]?.add(key);
    }
  }
  return undefined;
}

function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isStoredType(value: unknown): value is StoredType {
  return typeof value === "string" && Object.hasOwn(STORED_BYTES, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
}

/** A value of the file as JSON, cut so that a message stays one readable line. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** The error of a file that is not as the format wants; the hint says what to do about it. */
export function refusal(file: string, reason: string, hint = MALFORMED): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${file}: ${reason}`, { hint });
}
