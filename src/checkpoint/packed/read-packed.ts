// Rows of packed weights as float32: what is looked up and not multiplied, such as embeddings, and what is looked at before it is run.
import type { FileHandle } from "node:fs/promises";
import { readRange } from "../../std/files.js";
import type { BlockNumbers, PackedPart, PackedParts } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";
import { toFloat32 } from "../stored-numbers.js";

/** Rows [first, first + count) of packed weights in an open file: `scale · (code - zero) + offset`. Throws a plain Error when the file ends before. */
export async function readPackedRows(
  handle: FileHandle,
  packed: PackedParts,
  { first, count }: { readonly first: number; readonly count: number },
): Promise<Float32Array<ArrayBuffer>> {
  const rowsOf = async (part: PackedPart) => {
    const bytes = (part.shape[1]! * STORED_BYTES[part.dtype]) | 0;
    return readRange(handle, part.offset + first * bytes, count * bytes);
  };
  const numbersOf = async ({ each, superBlock }: BlockNumbers) => {
    const numbers = toFloat32(each.dtype, await rowsOf(each));
    if (superBlock === undefined) return numbers;
    const factors = toFloat32(superBlock.dtype, await rowsOf(superBlock));
    const per = each.shape[1]! / superBlock.shape[1]!;
    return numbers.map((number, index) => number * factors[Math.floor(index / per)]!);
  };
  const { bits, block, zero } = packed;
  const [codes, scales] = [await rowsOf(packed.codes), await numbersOf(packed.scales)];
  const offsets = packed.offsets && (await numbersOf(packed.offsets));
  const values = new Float32Array((codes.length * 8) / bits);
  for (let index = 0; index < values.length; index += 1) {
    const code = bits === 8 ? codes[index]! : (codes[index >> 1]! >> (4 * (index & 1))) & 15;
    const place = Math.floor(index / block);
    const scaled = Math.fround(scales[place]! * (code - zero));
    values[index] = offsets ? scaled + offsets[place]! : scaled;
  }
  return values;
}
