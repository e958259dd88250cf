// Products and numbers of weights that are packed in blocks of a row: `scale · (code - zero)`, a scale for each block.
// Operator schemas: DequantizeLinear of onnx/docs/Operators.md (opset 23), MatMulNBits of onnxruntime/docs/ContribOperators.md.
import { MICROSOFT } from "./node.js";
import type { Value } from "./value.js";

/** Codes u8 of rows, or of the blocks of rows, with their scales [rows, blocks] of `block` codes each. */
export interface BlockwiseCodes {
  readonly codes: Value;
  readonly scales: Value;
  readonly bits: 4 | 8;
  readonly block: number;
}

/** The zero that a product in so many bits takes unless it is given another: half of the codes are below it. */
export function usualZero(bits: 4 | 8): number {
  return 2 ** (bits - 1);
}

/** `x · Wᵀ` for x [tokens, columns] and codes [rows, blocks, block · bits / 8], in the type of x and of the scales: [tokens, rows]. The zero is the usual one. */
export function matMulNBits(x: Value, { codes, scales, bits, block }: BlockwiseCodes): Value {
  const [rows, blocks] = scales.shape as readonly [number, number];
  const columns = blocks * block;
  if (x.rank !== 2 || x.dim(1) !== columns || x.dtype !== scales.dtype || codes.dtype !== "u8")
    throw new Error(
      `Cannot multiply ${x.text()} by codes ${codes.text()} with scales ${scales.text()} in "${x.graph.place("MatMulNBits")}"`,
    );
  const attributes = { K: { int: columns }, N: { int: rows }, bits: { int: bits }, block_size: { int: block } };
  return x.graph.node("MatMulNBits", [x, codes, scales], {
    shapes: [[x.dim(0), rows]],
    dtype: x.dtype,
    domain: MICROSOFT,
    attributes,
  })[0]!;
}

/** The numbers of codes of 8 bits [rows, columns], in the type of their scales, about the usual zero: [rows, columns]. */
export function dequantized({ codes, scales, block }: Omit<BlockwiseCodes, "bits">): Value {
  const zeros = scales.graph.constant("u8", [1, 1], [usualZero(8)]).expand(scales.shape);
  return scales.graph.node("DequantizeLinear", [codes, scales, zeros], {
    shapes: [codes.shape],
    dtype: scales.dtype,
    attributes: { axis: { int: 1 }, block_size: { int: block } },
  })[0]!;
}
