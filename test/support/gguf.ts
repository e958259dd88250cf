// GGUF files, right or wrong, for tests: what gguf.md says, written down once more.
import { open, writeFile } from "node:fs/promises";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { repackedLayout } from "../../src/checkpoint/packed/packed-layout.js";
import { writeRepacked } from "../../src/checkpoint/packed/repack.js";

/** A tensor of a GGUF file: its dimensions outermost first, its type's number. */
export interface GgufTensor {
  readonly shape: readonly number[];
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Bytes from the start of the data; behind the one before it unless given. */
  readonly offset?: number;
}

/** A value of a key, by its type. */
export type GgufWritten =
  | { u32: number }
  | { f32: number }
  | { text: string }
  | { i32s: readonly number[] }
  | { texts: readonly string[] };

/** The number of float32. */
export const F32 = 0;

const ALIGNMENT = 32;

/** What a GGUF file holds; numbers that are not true, for tests of what is refused. */
export interface GgufContents {
  readonly values?: Readonly<Record<string, GgufWritten>>;
  readonly tensors?: Readonly<Record<string, GgufTensor>> | readonly (readonly [string, GgufTensor])[];
  readonly version?: number;
  readonly counts?: { readonly tensors?: bigint; readonly keys?: bigint };
}

/** The bytes of a GGUF file. */
export function ggufBytes(contents: GgufContents): Uint8Array {
  const { header, start, end, placed } = laidOut(contents);
  const all = new Uint8Array(start + end);
  all.set(header);
  for (const { offset, bytes } of placed) all.set(bytes, start + offset);
  return all;
}

/** Writes a GGUF file whose weights are a hole. */
export async function sparseGguf(
  path: string,
  values: GgufContents["values"] & object,
  tensors: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly type: number; readonly length: number }>
  >,
): Promise<string> {
  const holes = Object.entries(tensors).map(([name, { shape, type, length }]) => {
    // Its length is all that is asked of it.
    const bytes = { length } as Uint8Array;
    return [name, { shape, type, bytes }] as const;
  });
  const { header, start, end } = laidOut({ values, tensors: holes });
  const handle = await open(path, "w");
  try {
    await handle.write(header);
    await handle.truncate(start + end);
  } finally {
    await handle.close();
  }
  return path;
}

function laidOut({ values = {}, tensors = {}, version = 3, counts = {} }: GgufContents) {
  const listed = Array.isArray(tensors) ? (tensors as [string, GgufTensor][]) : Object.entries(tensors as object);
  const parts: Uint8Array[] = [];
  const u32 = (value: number) => parts.push(new Uint8Array(Uint32Array.of(value).buffer));
  const u64 = (value: number | bigint) => parts.push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  parts.push(new TextEncoder().encode("GGUF"));
  u32(version);
  u64(counts.tensors ?? listed.length);
  u64(counts.keys ?? Object.keys(values).length);
  for (const [key, value] of Object.entries(values)) {
    text(key);
    if ("u32" in value) {
      u32(4);
      u32(value.u32);
    } else if ("f32" in value) {
      u32(6);
      parts.push(new Uint8Array(Float32Array.of(value.f32).buffer));
    } else if ("text" in value) {
      u32(8);
      text(value.text);
    } else if ("i32s" in value) {
      u32(9);
      u32(5);
      u64(value.i32s.length);
      parts.push(new Uint8Array(Int32Array.from(value.i32s).buffer));
    } else {
      u32(9);
      u32(8);
      u64(value.texts.length);
      value.texts.forEach(text);
    }
  }
  let end = 0;
  const offsets = listed.map(([, { offset, bytes }]) => {
    const at = offset ?? Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = Math.max(end, at + bytes.length);
    return at;
  });
  for (const [index, [name, { shape, type }]] of (listed as [string, GgufTensor][]).entries()) {
    text(name);
    u32(shape.length);
    for (const dim of [...shape].reverse()) u64(dim);
    u32(type);
    u64(offsets[index]!);
  }
  const header = Buffer.concat(parts);
  const start = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
  const placed = listed.map(([, { bytes }], index) => ({ offset: offsets[index]!, bytes }));
  return { header, start, end, placed };
}

/** Writes a GGUF file; gives its path. */
export async function writeGguf(path: string, contents: GgufContents): Promise<string> {
  await writeFile(path, ggufBytes(contents));
  return path;
}

/** A float32 tensor of a GGUF file. */
export function floats(shape: readonly number[], data: Float32Array): GgufTensor {
  return { shape, type: F32, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** A checkpoint of GGUF as it is computed with, its repacked weights written to `path`. */
export async function repackedTo(path: string, checkpoint: Checkpoint): Promise<Checkpoint> {
  const layout = repackedLayout(checkpoint, path);
  const handle = await open(path, "w");
  try {
    await writeRepacked(handle, layout);
  } finally {
    await handle.close();
  }
  return layout.checkpoint;
}
