// Reads the header of a .safetensors file: names, types, shapes and byte ranges; the weights stay where they are.
// Refuses what the format's own implementation refuses, and keys that occur twice:
// https://github.com/huggingface/safetensors/blob/000a16f45cff0d4169ca15b67ea002895234d671/safetensors/src/tensor.rs

import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readRange } from "../../std/files.js";
import { isObject } from "../../std/guards.js";
import type { Checkpoint, StoredTensor, StoredType } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";
import { foreignFormat } from "../foreign.js";

/** Limit of the format's own implementation, so that a damaged length cannot ask for any amount of memory. */
const MAX_HEADER_BYTES = 100_000_000;
/** An unsigned 64-bit length comes before the header. */
const LENGTH_BYTES = 8;
/** Enough of the start of a file to name the format of one that is not safetensors. */
const MAGIC_BYTES = 64;
const OPENING_BRACE = 0x7b;

/** The checkpoint identity samples this many blocks of this many bytes: about 1 MiB, some milliseconds on a solid-state disk. */
const IDENTITY_BLOCKS = 256;
const IDENTITY_BLOCK_BYTES = 4096;

/** What is being read: its name for messages, its absolute path, its length in bytes. */
interface Source {
  readonly name: string;
  readonly file: string;
  readonly size: number;
}

/** How a file's header is read. */
export interface ReadOptions {
  /** Takes in what tells the file's weights apart (see checkpointIdentity), while it is open for its header. */
  readonly identity?: Hash;
}

/**
 * The tensors of a .safetensors file, from its header only. Throws QEDIT_E_MODEL_MISSING when there is no such file and
 * QEDIT_E_CHECKPOINT when it is not a complete, well-formed safetensors file.
 */
export async function readSafetensors(path: string, { identity }: ReadOptions = {}): Promise<Checkpoint> {
  const source = await locate(path);
  try {
    const handle = await open(source.file);
    try {
      const length = headerLength(await readRange(handle, 0, Math.min(source.size, MAGIC_BYTES)), source);
      const start = await readRange(handle, 0, LENGTH_BYTES + length);
      const checkpoint = parseHeader(start.subarray(LENGTH_BYTES), source);
      if (identity) await updateIdentity(identity, handle, { start, size: source.size });
      return checkpoint;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", path, error);
  }
}

/** The tensors of safetensors bytes in memory; their offsets count from the start of bytes. Throws as readSafetensors, naming name. */
export function decodeSafetensors(bytes: Uint8Array, name: string): Checkpoint {
  const source = { name, file: name, size: bytes.length };
  const length = headerLength(bytes.subarray(0, MAGIC_BYTES), source);
  return parseHeader(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length), source);
}

/**
 * A hexadecimal SHA-256 that identifies weights: over each file's length, its header with the 8 length bytes, and 256 blocks of 4096
 * bytes spread evenly over its data, the first and the last included. It does not depend on names or times. It is an identity and not
 * an integrity check: damage between the blocks goes unseen.
 */
export async function checkpointIdentity(checkpoint: Checkpoint): Promise<string> {
  const files = new Set([...checkpoint.tensors.values()].map((stored) => stored.file));
  const hash = createHash("sha256");
  for (const file of files.size > 0 ? files : [checkpoint.file]) {
    try {
      const handle = await open(file);
      try {
        const { size } = await handle.stat();
        const length = headerLength(await readRange(handle, 0, Math.min(size, MAGIC_BYTES)), {
          name: file,
          file,
          size,
        });
        await updateIdentity(hash, handle, { start: await readRange(handle, 0, LENGTH_BYTES + length), size });
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw ioFailure("read", file, error);
    }
  }
  return hash.digest("hex");
}

async function updateIdentity(
  hash: Hash,
  handle: FileHandle,
  { start, size }: { readonly start: Uint8Array; readonly size: number },
): Promise<void> {
  hash.update(`${size}\n`).update(start);
  for (const at of sampleStarts(start.length, size)) {
    hash.update(await readRange(handle, at, Math.min(IDENTITY_BLOCK_BYTES, size - at)));
  }
}

/** The JSON object under the metadata key `config`, empty when there is none; throws QEDIT_E_CHECKPOINT when it is no JSON object. */
export function checkpointConfig(checkpoint: Checkpoint): Record<string, unknown> {
  const text = checkpoint.metadata["config"];
  if (text === undefined) return {};
  const value = parseJson(text);
  if (!isObject(value)) throw refusal(checkpoint.file, 'metadata "config" is not a JSON object');
  return value;
}

async function locate(path: string): Promise<Source> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw refusal(path, "it is a folder", "Name the .safetensors file in it");
    if (!found.isFile()) throw refusal(path, "it is not a regular file");
    return { name: path, file: await realpath(path), size: found.size };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${path}`, { hint: "Check the path", cause: error });
    }
    throw ioFailure("read", path, error);
  }
}

/** Bytes of the JSON header, checked against the limit and the file; start is the beginning of the file. */
function headerLength(start: Uint8Array, { name, size }: Source): number {
  if (size === 0) throw refusal(name, "the file is empty");
  if (start[LENGTH_BYTES] !== OPENING_BRACE) {
    const format = foreignFormat(start);
    if (format !== undefined) throw refusal(name, `wanted a .safetensors file, found ${format.found}`, format.hint);
  }
  if (size < LENGTH_BYTES) throw refusal(name, `wanted at least ${LENGTH_BYTES} bytes, found ${size}`);
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    throw refusal(name, `header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`);
  const available = size - LENGTH_BYTES;
  if (length > BigInt(available)) throw refusal(name, `wanted a header of ${length} bytes, found ${available}`);
  if (length === 0n || start[LENGTH_BYTES] !== OPENING_BRACE) throw refusal(name, 'the header does not start with "{"');
  return Number(length);
}

function parseHeader(bytes: Uint8Array, source: Source): Checkpoint {
  const text = decodeText(bytes);
  if (text === undefined) throw refusal(source.name, "the header is not UTF-8 text");
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

/** Where the data of a file begins, in bytes. */
interface Layout {
  readonly source: Source;
  readonly dataStart: number;
}

function parseEntry(name: string, entry: unknown, { source, dataStart }: Layout): StoredTensor {
  const refuse = (reason: string) => refusal(source.name, `tensor ${quote(name)} ${reason}`);
  if (!isObject(entry)) throw refuse("is not described by a JSON object");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isStoredType(dtype)) throw refuse(`has the unknown type ${quote(dtype)}`);
  if (!isSizes(shape)) throw refuse(`has the shape ${quote(shape)}, wanted non-negative integers`);
  if (!isSizes(offsets) || offsets.length !== 2)
    throw refuse(`has the data_offsets ${quote(offsets)}, wanted two non-negative integers`);
  const [begin = 0, end = 0] = offsets;
  if (end < begin) throw refuse(`ends at byte ${end}, before its begin ${begin}`);
  if (dataStart + end > source.size) {
    throw refuse(`ends at byte ${dataStart + end}, the file at ${source.size}: it is cut off`);
  }
  const wanted = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
  if (wanted !== end - begin)
    throw refuse(`of ${dtype} [${shape.join(", ")}] wanted ${wanted} bytes, found ${end - begin}`);
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
    throw refusal(source.name, `the tensors end at byte ${covered}, the file at ${source.size}`);
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
      next.lastIndex = colon.lastIndex = stringEnd(json, start) + 1;
      if (!colon.test(json)) continue;
      const written = json.slice(start, next.lastIndex);
      const key = written.includes("\\") ? (JSON.parse(written) as string) : written.slice(1, -1);
      if (keys[depth]?.has(key)) return key;
      keys[depth]?.add(key);
    }
  }
  return undefined;
}

/** Index of the quote that closes the string opened at start. */
function stringEnd(json: string, start: number): number {
  for (let i = start + 1; ; i++) {
    i = json.indexOf('"', i);
    let slashes = 0;
    while (json[i - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return i;
  }
}

/** Starts of the sampled blocks; small data is read whole. */
function sampleStarts(dataStart: number, size: number): number[] {
  const room = size - dataStart - IDENTITY_BLOCK_BYTES;
  if (room <= IDENTITY_BLOCKS * IDENTITY_BLOCK_BYTES) {
    return Array.from(
      { length: Math.ceil((size - dataStart) / IDENTITY_BLOCK_BYTES) },
      (_, i) => dataStart + i * IDENTITY_BLOCK_BYTES,
    );
  }
  return Array.from({ length: IDENTITY_BLOCKS }, (_, i) => dataStart + Math.floor((room * i) / (IDENTITY_BLOCKS - 1)));
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

function refusal(
  file: string,
  reason: string,
  hint = "The file may be damaged or only partly downloaded: download it again",
): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${file}: ${reason}`, { hint });
}
