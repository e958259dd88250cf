// A checkpoint of any format: tensor names to byte ranges of files; the data stays where it is.

/**
 * Bytes of one element, by stored type; the names are those of the safetensors format, below them those of GGUF's blocks, whose scales count with
 * their elements, and of qedit's own packed weights, whose scales do not. Types below 8 bits are packed.
 */
export const STORED_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  C64: 8,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  F4: 0.5,
  Q8_0: 34 / 32,
  Q5_1: 24 / 32,
  Q5_0: 22 / 32,
  Q4_1: 20 / 32,
  Q4_0: 18 / 32,
  Q6_K: 210 / 256,
  Q5_K: 176 / 256,
  Q4_K: 144 / 256,
  Q3_K: 110 / 256,
  Q2_K: 84 / 256,
  IQ4_NL: 18 / 32,
  IQ4_XS: 136 / 256,
  INT8: 1,
  INT4: 0.5,
} as const;

/** Element type of a tensor on disk. F8_E4M3 is e4m3fn: no infinities, largest value 448. */
export type StoredType = keyof typeof STORED_BYTES;

/** Location of a tensor: a row-major, little-endian array at a byte range of a file. */
export interface StoredTensor {
  readonly dtype: StoredType;
  /** Empty for a scalar. */
  readonly shape: readonly number[];
  /** Absolute path, symbolic links resolved. */
  readonly file: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes; of packed weights those of all their parts, which lie one behind the other. */
  readonly length: number;
  /** Columns of each group that was rotated before it was rounded: the matrix times rotation(n) is what the layer multiplies by (see rotation.ts). */
  readonly rotated?: number;
  /** The parts of a matrix whose numbers are whole ones times scales; undefined where the bytes are the numbers. */
  readonly packed?: PackedParts;
  /** What it is put together from along an axis, before it can be computed with: a file may split what the model has as one. */
  readonly joinedFrom?: { readonly axis: 0 | 2; readonly parts: readonly StoredTensor[] };
}

/** A part of packed weights: bytes [offset, offset + length) of their file. */
export type PackedPart = Pick<StoredTensor, "dtype" | "shape" | "offset" | "length">;

/** One number for each block of a row: those of `each` [rows, blocks], times one of `superBlock` [rows, blocks / n] for each super-block of n blocks. */
export interface BlockNumbers {
  readonly each: PackedPart;
  readonly superBlock?: PackedPart;
}

/** A matrix [rows, columns] of `scale · (code - zero) + offset`, with a scale and an offset for each `block` columns of a row. */
export interface PackedParts {
  /** Of a code; two codes of 4 bits are a byte, the first one its lower half. */
  readonly bits: 4 | 8;
  /** Columns that share a scale. */
  readonly block: number;
  readonly zero: number;
  /** U8 [rows, columns · bits / 8] */
  readonly codes: PackedPart;
  readonly scales: BlockNumbers;
  readonly offsets?: BlockNumbers;
}

/** The tensors of a model file by their published names, and the file's own text metadata. */
export interface Checkpoint {
  /** As the user named it, for messages. */
  readonly file: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  /** What ComfyUI says of the formats of layers, as JSON, each different text once: the contents of `*.comfy_quant`. */
  readonly layerFormats?: readonly string[];
}

/** Elements of a stored tensor. */
export function elementsOf({ shape }: Pick<StoredTensor, "shape">): number {
  return shape.reduce((count, dim) => count * dim, 1);
}
