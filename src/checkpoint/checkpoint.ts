// A checkpoint of any format: tensor names to byte ranges of files; the data stays where it is.

/** Bytes of one element, by stored type; the names are those of the safetensors format. Types below 8 bits are packed. */
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
  /** Bytes. */
  readonly length: number;
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
