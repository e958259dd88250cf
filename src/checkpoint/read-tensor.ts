// Reads the data of stored tensors into memory, as float32 from any stored type.

import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { QeditError } from "../std/errors.js";
import { ioFailure, readRange } from "../std/files.js";
import { fromBfloat16, fromFloat8E4M3, fromFloat8E5M2, fromFloat16 } from "../std/half-floats.js";
import type { StoredTensor, StoredType } from "./checkpoint.js";
import { STORED_BYTES } from "./checkpoint.js";

type Bytes = Uint8Array<ArrayBuffer>;

/** Each converter gets bytes that own their ArrayBuffer, so that any alignment is right. The other types are of formats that qedit does not read. */
const CONVERT: Readonly<Partial<Record<StoredType, (bytes: Bytes) => Float32Array<ArrayBuffer>>>> = {
  F64: ({ buffer }) => Float32Array.from(new Float64Array(buffer)),
  F32: ({ buffer }) => new Float32Array(buffer),
  F16: ({ buffer }) => fromFloat16(new Uint16Array(buffer)),
  BF16: ({ buffer }) => fromBfloat16(new Uint16Array(buffer)),
  F8_E4M3: fromFloat8E4M3,
  F8_E5M2: fromFloat8E5M2,
  I64: ({ buffer }) => Float32Array.from(new BigInt64Array(buffer), Number),
  I32: ({ buffer }) => Float32Array.from(new Int32Array(buffer)),
  I16: ({ buffer }) => Float32Array.from(new Int16Array(buffer)),
  I8: ({ buffer }) => Float32Array.from(new Int8Array(buffer)),
  U64: ({ buffer }) => Float32Array.from(new BigUint64Array(buffer), Number),
  U32: ({ buffer }) => Float32Array.from(new Uint32Array(buffer)),
  U16: ({ buffer }) => Float32Array.from(new Uint16Array(buffer)),
  U8: (bytes) => Float32Array.from(bytes),
  BOOL: (bytes) => Float32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1)),
};

/** All values of a stored tensor, row-major; 64-bit types are rounded to float32. Throws QEDIT_E_IO when its file cannot be read. */
export async function readTensor(stored: StoredTensor): Promise<Float32Array<ArrayBuffer>> {
  return toFloat32(stored.dtype, await readBytes(stored));
}

/** The stored bytes of a tensor, in an ArrayBuffer of their own. Throws QEDIT_E_IO when its file cannot be read. */
export async function readBytes(stored: StoredTensor): Promise<Bytes> {
  return withFile(stored.file, (handle) => readRange(handle, stored.offset, stored.length));
}

/**
 * The given rows of a stored matrix [n, width] as [rows.length, width], in the order asked for; a row asked for twice is read once.
 * Throws QEDIT_E_CHECKPOINT when the tensor is no matrix or a row lies outside it, QEDIT_E_IO when its file cannot be read.
 */
export async function readRows(stored: StoredTensor, rows: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
  const [count, width] = stored.shape;
  if (stored.shape.length !== 2 || count === undefined || width === undefined) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot read rows of ${stored.file}: wanted a matrix, found [${stored.shape.join(", ")}]`,
    );
  }
  const outside = rows.find((row) => !Number.isInteger(row) || row < 0 || row >= count);
  if (outside !== undefined) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot read row ${outside} of ${stored.file}: wanted 0 to ${count - 1}`,
    );
  }
  const rowBytes = width * STORED_BYTES[stored.dtype];
  const out = new Float32Array(rows.length * width);
  await withFile(stored.file, async (handle) => {
    for (const { first, last } of runs(rows)) {
      const bytes = await readRange(handle, stored.offset + first * rowBytes, (last - first + 1) * rowBytes);
      const values = toFloat32(stored.dtype, bytes);
      rows.forEach((row, i) => {
        if (row >= first && row <= last)
          out.set(values.subarray((row - first) * width, (row - first + 1) * width), i * width);
      });
    }
  });
  return out;
}

/** The values of scalars (one element each) in the order given, with each file opened once. Throws QEDIT_E_IO. */
export async function readScalars(scalars: readonly StoredTensor[]): Promise<number[]> {
  const values = new Map<StoredTensor, number>();
  for (const file of new Set(scalars.map((stored) => stored.file))) {
    await withFile(file, async (handle) => {
      for (const stored of scalars.filter((scalar) => scalar.file === file)) {
        const [value = NaN] = toFloat32(stored.dtype, await readRange(handle, stored.offset, stored.length));
        values.set(stored, value);
      }
    });
  }
  return scalars.map((stored) => values.get(stored) ?? NaN);
}

/** float32 of the little-endian bytes of a stored type, rounded to nearest where the type is wider. Bytes in the middle of a buffer are copied. Throws QEDIT_E_CHECKPOINT for a type without numbers of its own. */
export function toFloat32(dtype: StoredType, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const owned =
    bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength
      ? (bytes as Bytes)
      : Uint8Array.from(bytes);
  const convert = CONVERT[dtype];
  if (convert === undefined)
    throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot read numbers stored as ${dtype}`, {
      hint: "Take the file in another type, such as bf16",
    });
  return convert(owned);
}

/** The distinct rows in runs of neighbours, so that each run is one read. */
function runs(rows: readonly number[]): { first: number; last: number }[] {
  const found: { first: number; last: number }[] = [];
  for (const row of [...new Set(rows)].sort((a, b) => a - b)) {
    const run = found.at(-1);
    if (run !== undefined && row === run.last + 1) run.last = row;
    else found.push({ first: row, last: row });
  }
  return found;
}

async function withFile<T>(file: string, read: (handle: FileHandle) => Promise<T>): Promise<T> {
  try {
    const handle = await open(file);
    try {
      return await read(handle);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", file, error);
  }
}
