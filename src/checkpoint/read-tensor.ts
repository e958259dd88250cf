// Reads the data of stored tensors into memory, as float32 from any stored type.

import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { QeditError } from "../std/errors.js";
import { ioFailure, readRange } from "../std/files.js";
import type { StoredTensor } from "./checkpoint.js";
import { STORED_BYTES } from "./checkpoint.js";
import { readPackedRows } from "./packed/read-packed.js";
import { toFloat32 } from "./stored-numbers.js";

type Bytes = Uint8Array<ArrayBuffer>;

/** All values of a stored tensor, row-major; 64-bit types are rounded to float32. Throws QEDIT_E_IO when its file cannot be read. */
export async function readTensor(stored: StoredTensor): Promise<Float32Array<ArrayBuffer>> {
  const { packed, shape } = stored;
  if (packed) return withFile(stored.file, (handle) => readPackedRows(handle, packed, { first: 0, count: shape[0]! }));
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
      const count = last - first + 1;
      const values = stored.packed
        ? await readPackedRows(handle, stored.packed, { first, count })
        : toFloat32(stored.dtype, await readRange(handle, stored.offset + first * rowBytes, count * rowBytes));
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
