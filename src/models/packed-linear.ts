// Products with packed weights, as quantised files hold them: blocks of whole numbers of 4 or 8 bits with a scale, and some with an offset.
import type { BlockNumberValues, PackedValues } from "../checkpoint/weights.js";
import { gather } from "../graph/indexing.js";
import { gemm } from "../graph/operators.js";
import { dequantized, matMulNBits, usualZero } from "../graph/quantized.js";
import type { DType } from "../graph/types.js";
import { concat, type Value } from "../graph/value.js";

/**
 * `x · Wᵀ` for packed W, in the type of x: [tokens, columns] gives [tokens, rows]. An offset is the same for all columns of a block, so that it is
 * multiplied by the sum of x over them.
 */
export function packedGemm(x: Value, packed: PackedValues): Value {
  const { bits, block } = packed;
  const scales = numbersOf(packed.scales);
  const numbers = { scales: scales.cast(x.dtype), bits, block };
  // In float32 ONNX Runtime widens codes of 8 bits and multiplies faster than it takes the product in one (bench/packed-products.ts).
  const isWidened = bits === 8 && x.dtype === "f32";
  const product = isWidened
    ? gemm(x, dequantized({ ...numbers, codes: packed.codes("rows") }))
    : matMulNBits(x, { ...numbers, codes: packed.codes("blocks") });
  const offsets = offsetsOf(packed, scales);
  return offsets === undefined ? product : product.add(gemm(blockSums(x, block), offsets.cast(x.dtype)));
}

/** Packed weights as numbers of `dtype` [rows, columns]. Only codes of 8 bits without offsets: what is no product is not quantised further. */
export function packedNumbers(packed: PackedValues, dtype: DType): Value {
  const scales = numbersOf(packed.scales);
  if (packed.bits === 4 || offsetsOf(packed, scales) !== undefined)
    throw new Error(`internal: ${packed.codes("rows").text()} is multiplied by only`);
  return dequantized({ ...packed, codes: packed.codes("rows"), scales }).cast(dtype);
}

/** One number for each block of a row, f32 [rows, blocks]. */
function numbersOf({ each, superBlock }: BlockNumberValues): Value {
  const numbers = each.cast("f32");
  if (superBlock === undefined) return numbers;
  const [rows, blocks] = [each.dim(0), Number(each.dim(1))];
  const groups = Number(superBlock.dim(1));
  const grouped = numbers.reshape([rows, groups, blocks / groups]);
  return grouped.mul(superBlock.cast("f32").reshape([rows, groups, 1])).reshape([rows, blocks]);
}

/** What is added to all numbers of a block when the product is about the usual zero, f32 [rows, blocks]. */
function offsetsOf({ bits, zero, offsets }: PackedValues, scales: Value): Value | undefined {
  const given = offsets && numbersOf(offsets);
  const shift = usualZero(bits) - zero;
  if (shift === 0) return given;
  const moved = scales.mul(shift);
  return given ? given.add(moved) : moved;
}

/** Rows of packed weights by number, f32 [n, columns], for row numbers i64 [n]. */
export function packedRows(rows: Value, packed: PackedValues): Value {
  const of = ({ each, superBlock }: BlockNumberValues) => ({
    each: gather(each, rows),
    superBlock: superBlock && gather(superBlock, rows),
  });
  const { codes, scales, offsets } = packed;
  return packedMatrix({
    ...packed,
    codes: gather(codes("rows"), rows),
    scales: of(scales),
    offsets: offsets && of(offsets),
  });
}

/** Packed weights with their codes in rows. */
interface PackedRows extends Omit<PackedValues, "codes" | "rows" | "columns"> {
  readonly codes: Value;
}

/** Packed weights of any form as numbers, f32 [rows, columns]: as much memory as they take unpacked, several times over. */
export function packedMatrix({ bits, block, zero, codes, scales, offsets }: PackedRows): Value {
  const bytes = codes.cast("f32");
  const [n, width] = [bytes.dim(0), Number(bytes.dim(1))];
  const columns = (width * 8) / bits;
  const numbers = (bits === 8 ? bytes : halvesOf(bytes).reshape([n, columns])).sub(zero);
  const blocks = [n, columns / block, block];
  const scaled = numbers.reshape(blocks).mul(numbersOf(scales).reshape([n, columns / block, 1]));
  const moved = offsets ? scaled.add(numbersOf(offsets).reshape([n, columns / block, 1])) : scaled;
  return moved.reshape([n, columns]);
}

// Both halves of bytes as numbers, the lower one first: [n, width] to [n, width, 2].
function halvesOf(bytes: Value): Value {
  const shape = [...bytes.shape, 1];
  const upper = bytes.mul(1 / 16).floor();
  const lower = bytes.sub(upper.mul(16));
  return concat([lower.reshape(shape), upper.reshape(shape)], 2);
}

// [tokens, columns] as the sums over each block: [tokens, columns / block].
function blockSums(x: Value, block: number): Value {
  const blocks = Number(x.dim(1)) / block;
  return x.reshape([x.dim(0), blocks, block]).sumOver(2);
}
