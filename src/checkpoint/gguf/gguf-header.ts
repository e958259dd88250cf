// The header of a GGUF file: its version, its keys and values, and where its tensors lie.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; as strict as llama.cpp's reader (ggml/src/gguf.cpp), and with limits.
import { QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import type { Checkpoint, StoredTensor, StoredType } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";
import type { Source } from "../located-file.js";
import { BLOCK_TYPE_NAMES, blockTypeOf, OTHER_TYPES, PLAIN_TYPES } from "./block-types.js";

/** Bytes at the start of every GGUF file. */
export const GGUF_MAGIC = "GGUF";
/** Versions that are read: 1 had lengths of 32 bits. */
const VERSIONS = [2, 3];
/** Far above any model's: the longest part is a vocabulary of some 150,000 words. */
export const MAX_HEADER_BYTES = 100_000_000;
const MOST_TENSORS = 100_000;
const MOST_KEYS = 100_000;
/** ggml's. */
const MOST_DIMENSIONS = 4;
const LONGEST_NAME = 65_535;
const DEFAULT_ALIGNMENT = 32;
const LARGEST_ALIGNMENT = 65_536;
/** Values of an array, and characters of a text, that are kept; longer ones are vocabularies. */
const KEPT_VALUES = 64;
const KEPT_CHARACTERS = 10_000;

const PARTLY = "The file is only partly downloaded: download it again";
const MALFORMED = "It was written by a tool that does not keep to the format: compare it with its publisher's";

/** A value of a key: long arrays and texts are left out. */
export type GgufValue = string | number | boolean | readonly (string | number | boolean)[];

/** What a header says. */
export interface GgufHeader {
  readonly values: ReadonlyMap<string, GgufValue>;
  readonly tensors: Checkpoint["tensors"];
  /** Bytes of the header, without the padding behind it. */
  readonly length: number;
}

/** The header goes on behind the bytes that were given. */
export class MoreBytesWanted extends Error {}

/** Parses the start of a file. Throws MoreBytesWanted when the header is longer than `bytes`, QEDIT_E_CHECKPOINT when it is not well-formed or does not fit the file. */
export function parseGguf(bytes: Uint8Array, source: Source): GgufHeader {
  const read = new Reader(bytes, source);
  read.skip(GGUF_MAGIC.length);
  const version = read.u32();
  if (!VERSIONS.includes(version)) {
    const isSwapped = version % 0x10000 === 0;
    throw refusal(
      source,
      isSwapped ? "it is big-endian" : `version ${version} of GGUF, wanted ${VERSIONS.join(" or ")}`,
    );
  }
  const [tensorCount, keyCount] = [read.count("tensors", MOST_TENSORS), read.count("keys", MOST_KEYS)];
  const values = new Map<string, GgufValue>();
  const seen = new Set<string>();
  for (let index = 0; index < keyCount; index += 1) {
    const key = read.text("a key");
    if (seen.has(key)) throw refusal(source, `the header names the key ${quoted(key)} twice`);
    seen.add(key);
    const value = read.value(read.u32(), key);
    if (value !== undefined) values.set(key, value);
  }
  const alignment = values.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (typeof alignment !== "number" || !isPowerOfTwo(alignment) || alignment > LARGEST_ALIGNMENT)
    throw refusal(source, `an alignment of ${quoted(String(alignment))}, wanted a power of two`);
  const described = Array.from({ length: tensorCount }, () => read.tensor(values));
  const dataStart = aligned(read.at, alignment);
  return { values, tensors: placed(described, { source, alignment, dataStart }), length: read.at };
}

interface Described {
  readonly name: string;
  readonly dtype: StoredType;
  readonly shape: readonly number[];
  /** Bytes from the start of the data. */
  readonly offset: number;
  readonly length: number;
}

// Tensors follow each other, each at the alignment; nothing lies behind the last one but its padding.
function placed(
  described: readonly Described[],
  { source, alignment, dataStart }: { source: Source; alignment: number; dataStart: number },
): ReadonlyMap<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, offset, length } of described) {
    if (tensors.has(name)) throw refusal(source, `the header names the tensor ${quoted(name)} twice`);
    if (dataStart + offset + length > source.size) {
      const end = `ends at byte ${dataStart + offset + length}, the file at ${source.size}: it is cut off`;
      throw refusal(source, `tensor ${quoted(name)} ${end}`, PARTLY);
    }
    tensors.set(name, { dtype, shape, file: source.file, offset: dataStart + offset, length });
  }
  const [ordered, padding] = [[...tensors].sort(([, a], [, b]) => a.offset - b.offset), alignment];
  let wanted = dataStart;
  for (const [name, { offset, length }] of ordered) {
    if (offset !== wanted)
      throw refusal(
        source,
        `tensor ${quoted(name)} begins at byte ${offset}, wanted ${wanted}, behind the one before it`,
      );
    wanted = aligned(offset + length, padding);
  }
  if (source.size > wanted)
    throw refusal(source, `the tensors end at byte ${wanted}, the file at ${source.size}: the rest belongs to nothing`);
  return tensors;
}

// A cursor over the header.
class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #source: Source;

  constructor(bytes: Uint8Array, source: Source) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#source = source;
  }

  skip(bytes: number): number {
    const start = this.at;
    if (start + bytes > this.#source.size) throw refusal(this.#source, "the header is cut off", PARTLY);
    if (start + bytes > MAX_HEADER_BYTES)
      throw refusal(this.#source, `the header is longer than ${MAX_HEADER_BYTES} bytes`);
    if (start + bytes > this.#bytes.length) throw new MoreBytesWanted();
    this.at = start + bytes;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4), true);
  }

  /** A length of 64 bits that is at most `most`, or at most what is left of the file. */
  count(what: string, most = this.#source.size - this.at): number {
    const count = this.#view.getBigUint64(this.skip(8), true);
    if (count > BigInt(most)) throw refusal(this.#source, `${count} ${what}, at most ${most} are possible`);
    return Number(count);
  }

  text(what: string, most = LONGEST_NAME): string {
    const length = this.count(`bytes of ${what}`, most);
    const start = this.skip(length);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw refusal(this.#source, `${what} is not UTF-8 text`);
    }
  }

  /** The value of a key; undefined for one that is longer than what is kept. */
  value(type: number, key: string): GgufValue | undefined {
    if (type !== ARRAY) return this.#scalar(type, key);
    const [element, length] = [this.u32(), this.count(`values of ${quoted(key)}`)];
    if (element === ARRAY) throw refusal(this.#source, `an array of arrays for ${quoted(key)}`);
    if (length <= KEPT_VALUES) {
      const values = Array.from({ length }, () => this.#scalar(element, key));
      return values.every((value) => value !== undefined) ? values : undefined;
    }
    const width = NUMBERS[element]?.bytes;
    if (width !== undefined) this.skip(width * length);
    else for (let index = 0; index < length; index += 1) this.#passText(element, key);
    return undefined;
  }

  tensor(values: ReadonlyMap<string, GgufValue>): Described {
    const name = this.text("a tensor's name");
    const refuse = (reason: string, hint?: string) => refusal(this.#source, `tensor ${quoted(name)} ${reason}`, hint);
    const rank = this.u32();
    if (rank > MOST_DIMENSIONS) throw refuse(`has ${rank} dimensions, at most ${MOST_DIMENSIONS} are possible`);
    // The first dimension of ggml is the innermost one.
    const dims = Array.from({ length: rank }, () => this.count("elements", Number.MAX_SAFE_INTEGER)).reverse();
    const id = this.u32();
    const offset = this.count("bytes", Number.MAX_SAFE_INTEGER);
    const dtype = PLAIN_TYPES.get(id) ?? BLOCK_TYPE_NAMES.get(id);
    if (dtype === undefined) {
      const type = OTHER_TYPES.get(id) ?? `number ${id}`;
      const reason = `is stored as ${type}, which qedit does not repack`;
      throw refuse(reason, "Take the file as Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, Q5_0, Q5_1, Q4_0, Q4_1 or IQ4_XS");
    }
    const elements = dims.reduce((product, dim) => product * dim, 1);
    if (!Number.isSafeInteger(elements)) throw refuse(`has the shape [${dims.join(", ")}], which is too large`);
    const shape = originalShape(values.get(`comfy.gguf.orig_shape.${name}`)) ?? dims;
    const block = blockTypeOf(dtype)?.elements ?? 1;
    const odd = [dims, shape].map((each) => each.at(-1) ?? 1).find((row) => row % block !== 0);
    if (odd !== undefined) throw refuse(`has rows of ${odd}, no multiple of ${dtype}'s ${block}`);
    if (shape.reduce((product, dim) => product * dim, 1) !== elements)
      throw refuse(`has ${elements} elements, its original shape [${shape.join(", ")}] others`);
    return { name, dtype, shape, offset, length: elements * STORED_BYTES[dtype] };
  }

  #scalar(type: number, key: string): string | number | boolean | undefined {
    if (type === TEXT) {
      const text = this.text(`the text of ${quoted(key)}`, this.#source.size - this.at);
      return text.length <= KEPT_CHARACTERS ? text : undefined;
    }
    const number = NUMBERS[type];
    if (number === undefined) throw refusal(this.#source, `the unknown type ${type} for ${quoted(key)}`);
    return number.read(this.#view, this.skip(number.bytes));
  }

  #passText(type: number, key: string): void {
    if (type !== TEXT) throw refusal(this.#source, `the unknown type ${type} for ${quoted(key)}`);
    this.skip(this.count(`bytes of a text of ${quoted(key)}`));
  }
}

const TEXT = 8;
const ARRAY = 9;

/** Types of values that have one length, by GGUF's number. */
const NUMBERS: Readonly<
  Record<number, { readonly bytes: number; readonly read: (view: DataView, at: number) => number | boolean }>
> = {
  0: { bytes: 1, read: (view, at) => view.getUint8(at) },
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
  3: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  4: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
  5: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  6: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 },
  10: { bytes: 8, read: (view, at) => Number(view.getBigUint64(at, true)) },
  11: { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  12: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

// Tensors of more dimensions than ggml has are stored as fewer, and the others named (ComfyUI-GGUF, tools/convert.py).
function originalShape(value: GgufValue | undefined): readonly number[] | undefined {
  const isShape = Array.isArray(value) && value.every((dim) => Number.isSafeInteger(dim) && Number(dim) >= 0);
  return isShape ? (value as number[]) : undefined;
}

function quoted(name: string): string {
  return `"${shown(name)}"`;
}

function isPowerOfTwo(number: number): boolean {
  return Number.isSafeInteger(number) && number > 0 && Number.isInteger(Math.log2(number));
}

function aligned(at: number, alignment: number): number {
  return Math.ceil(at / alignment) * alignment;
}

function refusal({ name }: Source, reason: string, hint = MALFORMED): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${name}: ${reason}`, { hint });
}
