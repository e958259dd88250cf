// Writes .safetensors files as the format's own implementation lays them out: compact JSON, tensors by falling type, then by name.
// https://github.com/huggingface/safetensors/blob/000a16f45cff0d4169ca15b67ea002895234d671/safetensors/src/tensor.rs

import { writeFileAtomically } from "../../std/files.js";
import { toBfloat16, toFloat8E4M3, toFloat8E5M2, toFloat16 } from "../../std/half-floats.js";
import type { Tensor } from "../../std/tensor.js";
import { elementCount } from "../../std/tensor.js";
import type { StoredType } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";

/** The header is padded with spaces to a multiple of this, so that the data of every type is aligned. */
const ALIGNMENT_BYTES = 8;

/** Types in the order of the format's implementation, smallest alignment first; files hold them from the last to the first. */
const TYPE_ORDER: readonly StoredType[] = [
  "BOOL",
  "U8",
  "I8",
  "F8_E5M2",
  "F8_E4M3",
  "I16",
  "U16",
  "F16",
  "BF16",
  "I32",
  "U32",
  "F32",
  "F64",
  "I64",
  "U64",
];

const STORED_AS = { float32: "F32", int32: "I32", int64: "I64", uint8: "U8" } as const;

const NARROW = { F16: toFloat16, BF16: toBfloat16, F8_E4M3: toFloat8E4M3, F8_E5M2: toFloat8E5M2 } as const;

/** A host tensor, and for float32 ones optionally the smaller type to round it to. */
export interface WritableTensor extends Tensor {
  readonly storedAs?: keyof typeof NARROW;
}

/** A tensor as a header describes it. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: StoredType;
  readonly shape: readonly number[];
}

/**
 * Writes a .safetensors file whole or not at all (writeFileAtomically). Throws QEDIT_E_IO.
 * Example: `writeSafetensors("x.safetensors", { a: { ...float32([2]), storedAs: "BF16" } })`.
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, WritableTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomically(path, encodeSafetensors(tensors, metadata));
}

/** The bytes of a .safetensors file; the metadata is left out when it is empty. */
export function encodeSafetensors(
  tensors: Readonly<Record<string, WritableTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const entries = Object.entries(tensors).map(([name, { type, shape, storedAs }]) => ({
    name,
    dtype: storedAs ?? STORED_AS[type],
    shape,
  }));
  const { header, ordered, dataBytes } = encodeHeader(entries, metadata);
  const bytes = new Uint8Array(header.length + dataBytes);
  bytes.set(header);
  let offset = header.length;
  for (const { name } of ordered) {
    const data = storedBytes(name, tensors);
    bytes.set(data, offset);
    offset += data.length;
  }
  return bytes;
}

/**
 * The first part of a .safetensors file (8 length bytes, then the header), the order of the tensors after it, and their bytes together. With `isOrdered`
 * they stay in the order in which they are given.
 */
export function encodeHeader(
  entries: readonly HeaderEntry[],
  metadata: Readonly<Record<string, string>> = {},
  { isOrdered = false } = {},
): { header: Uint8Array<ArrayBuffer>; ordered: readonly HeaderEntry[]; dataBytes: number } {
  const ordered = isOrdered
    ? entries
    : [...entries].sort(
        (a, b) => TYPE_ORDER.indexOf(b.dtype) - TYPE_ORDER.indexOf(a.dtype) || (a.name < b.name ? -1 : 1),
      );
  const described: [string, unknown][] = Object.keys(metadata).length > 0 ? [["__metadata__", metadata]] : [];
  let dataBytes = 0;
  for (const { name, dtype, shape } of ordered) {
    const begin = dataBytes;
    dataBytes += elementCount(shape) * STORED_BYTES[dtype];
    described.push([name, { dtype, shape, data_offsets: [begin, dataBytes] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(described)));
  const padded = Math.ceil(json.length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return { header, ordered, dataBytes };
}

function storedBytes(name: string, tensors: Readonly<Record<string, WritableTensor>>): Uint8Array {
  const written = tensors[name];
  if (written === undefined) throw new Error(`internal: no tensor "${name}" to write`);
  const { data, storedAs } = written;
  if (storedAs === undefined) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (!(data instanceof Float32Array))
    throw new Error(`internal: only float32 can be stored as ${storedAs}, "${name}" is ${written.type}`);
  return new Uint8Array(NARROW[storedAs](data).buffer);
}
