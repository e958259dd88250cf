// The types of tensors in GGUF files, by their numbers, and what a block of each quantised type holds: codes, scales and offsets, as llama.cpp's
// dequantize_row_* reads them (ggml/src/ggml-quants.c and ggml-common.h, https://github.com/ggml-org/llama.cpp, MIT).
import type { StoredType } from "../checkpoint.js";

/** Types whose elements stand for themselves, by GGUF's number. */
export const PLAIN_TYPES: ReadonlyMap<number, StoredType> = new Map([
  [0, "F32"],
  [1, "F16"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [30, "BF16"],
]);

/** Names of the types that are not repacked, by GGUF's number, for messages. */
export const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
  [40, "NVFP4"],
]);

/** A type whose elements come in blocks. */
export type BlockTypeName = Extract<StoredType, `${"Q" | "IQ"}${number}_${string}`>;

/** Where the blocks of rows are unpacked to: one code for each byte, and the bits of the numbers of each block. */
export interface UnpackedBlocks {
  readonly codes: Uint8Array;
  readonly scales: Uint16Array | Uint8Array;
  readonly superScales: Uint16Array | undefined;
  readonly offsets: Uint16Array | Uint8Array | undefined;
  readonly superOffsets: Uint16Array | undefined;
}

/** A type of blocks, and its form as packed weights (see PackedParts). */
export interface BlockType {
  readonly id: number;
  /** Elements of a block. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
  readonly bits: 4 | 8;
  readonly zero: number;
  /** Elements that share a scale. */
  readonly block: 16 | 32;
  /** The type of the scales, and of the offsets: F16, or whole numbers times an F16 for each super-block. */
  readonly scales: "F16" | "U8" | "I8";
  readonly hasOffsets: boolean;
  /** Unpacks the block at `bytes[at]` into place `index` of the blocks. */
  readonly unpack: (bytes: Uint8Array, at: number, to: UnpackedBlocks, index: number) => void;
}

/** Elements of a block of the K types. */
const SUPER = 256;
const ZERO_8 = 128;
const ZERO_4 = 8;
const SIGN_OF_F16 = 0x8000;

/** The numbers that the codes of IQ4 types stand for (kvalues_iq4nl), with the zero of codes of 8 bits added. */
const IQ4 = Uint8Array.of(
  ...[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113].map((value) => value + ZERO_8),
);

const legacy = { elements: 32, block: 32, scales: "F16" } as const;

/** GGUF's quantised types that have an exact form. */
export const BLOCK_TYPES: Readonly<Record<BlockTypeName, BlockType>> = {
  Q4_0: {
    ...{ ...legacy, id: 2, bytes: 18, bits: 4, zero: ZERO_4, hasOffsets: false },
    unpack(bytes, at, { codes, scales }, index) {
      scales[index] = u16(bytes, at);
      nibbles(bytes, at + 2, codes, index * 32);
    },
  },
  Q4_1: {
    ...{ ...legacy, id: 3, bytes: 20, bits: 4, zero: 0, hasOffsets: true },
    unpack(bytes, at, { codes, scales, offsets }, index) {
      scales[index] = u16(bytes, at);
      offsets![index] = u16(bytes, at + 2);
      nibbles(bytes, at + 4, codes, index * 32);
    },
  },
  Q5_0: {
    ...{ ...legacy, id: 6, bytes: 22, bits: 8, zero: ZERO_8, hasOffsets: false },
    unpack(bytes, at, { codes, scales }, index) {
      scales[index] = u16(bytes, at);
      fiveBits(bytes, at + 2, codes, { to: index * 32, add: ZERO_8 - 16 });
    },
  },
  Q5_1: {
    ...{ ...legacy, id: 7, bytes: 24, bits: 8, zero: ZERO_8, hasOffsets: true },
    unpack(bytes, at, { codes, scales, offsets }, index) {
      scales[index] = u16(bytes, at);
      offsets![index] = u16(bytes, at + 2);
      fiveBits(bytes, at + 4, codes, { to: index * 32, add: ZERO_8 });
    },
  },
  Q8_0: {
    ...{ ...legacy, id: 8, bytes: 34, bits: 8, zero: ZERO_8, hasOffsets: false },
    unpack(bytes, at, { codes, scales }, index) {
      scales[index] = u16(bytes, at);
      // Two's complement with its sign bit turned is the number and 128.
      for (let each = 0; each < 32; each += 1) codes[index * 32 + each] = bytes[at + 2 + each]! ^ ZERO_8;
    },
  },
  Q2_K: {
    ...{ id: 10, elements: SUPER, bytes: 84, bits: 4, zero: ZERO_4, block: 16, scales: "U8", hasOffsets: true },
    unpack(bytes, at, { codes, scales, superScales, offsets, superOffsets }, index) {
      const [quants, factor] = [at + 16, at + 80];
      superScales![index] = u16(bytes, factor);
      superOffsets![index] = u16(bytes, factor + 2) ^ SIGN_OF_F16;
      for (let block = 0; block < 16; block += 1) {
        scales[index * 16 + block] = bytes[at + block]! & 15;
        offsets![index * 16 + block] = bytes[at + block]! >> 4;
      }
      for (let each = 0; each < SUPER; each += 1) codes[index * SUPER + each] = ZERO_4 + twoBits(bytes, quants, each);
    },
  },
  Q3_K: {
    ...{ id: 11, elements: SUPER, bytes: 110, bits: 4, zero: ZERO_4, block: 16, scales: "I8", hasOffsets: false },
    unpack(bytes, at, { codes, scales, superScales }, index) {
      const [quants, packed] = [at + 32, at + 96];
      superScales![index] = u16(bytes, at + 108);
      for (let block = 0; block < 16; block += 1) {
        const low = block < 8 ? bytes[packed + block]! & 15 : bytes[packed + block - 8]! >> 4;
        const high = (bytes[packed + 8 + (block & 3)]! >> (2 * (block >> 2))) & 3;
        scales[index * 16 + block] = (low | (high << 4)) - 32;
      }
      for (let each = 0; each < SUPER; each += 1) {
        const isHigh = (bytes[at + (each & 31)]! >> (each >> 5)) & 1;
        codes[index * SUPER + each] = ZERO_4 + twoBits(bytes, quants, each) - (isHigh ? 0 : 4);
      }
    },
  },
  Q4_K: {
    ...{ id: 12, elements: SUPER, bytes: 144, bits: 4, zero: 0, block: 32, scales: "U8", hasOffsets: true },
    unpack(bytes, at, to, index) {
      sixBitPairs(bytes, at, to, index);
      for (let each = 0; each < SUPER; each += 1) to.codes[index * SUPER + each] = halfOf(bytes, at + 16, each);
    },
  },
  Q5_K: {
    ...{ id: 13, elements: SUPER, bytes: 176, bits: 8, zero: ZERO_8, block: 32, scales: "U8", hasOffsets: true },
    unpack(bytes, at, to, index) {
      sixBitPairs(bytes, at, to, index);
      for (let each = 0; each < SUPER; each += 1) {
        const high = (bytes[at + 16 + (each & 31)]! >> (each >> 5)) & 1;
        to.codes[index * SUPER + each] = ZERO_8 + halfOf(bytes, at + 48, each) + (high << 4);
      }
    },
  },
  Q6_K: {
    ...{ id: 14, elements: SUPER, bytes: 210, bits: 8, zero: ZERO_8, block: 16, scales: "I8", hasOffsets: false },
    unpack(bytes, at, { codes, scales, superScales }, index) {
      const [high, sizes] = [at + 128, at + 192];
      superScales![index] = u16(bytes, at + 208);
      for (let block = 0; block < 16; block += 1) scales[index * 16 + block] = bytes[sizes + block]!;
      for (let each = 0; each < SUPER; each += 1) {
        // Halves of 128: the lower halves of 64 bytes, then their upper ones; two bits each from 32 bytes.
        const [half, within] = [each >> 7, each & 127];
        const byte = bytes[at + half * 64 + (within & 63)]!;
        const low = within < 64 ? byte & 15 : byte >> 4;
        const top = (bytes[high + half * 32 + (within & 31)]! >> (2 * (within >> 5))) & 3;
        codes[index * SUPER + each] = ZERO_8 + (low | (top << 4)) - 32;
      }
    },
  },
  IQ4_NL: {
    ...{ ...legacy, id: 20, bytes: 18, bits: 8, zero: ZERO_8, hasOffsets: false },
    unpack(bytes, at, { codes, scales }, index) {
      scales[index] = u16(bytes, at);
      nonlinearNibbles(bytes, at + 2, codes, index * 32);
    },
  },
  IQ4_XS: {
    ...{ id: 23, elements: SUPER, bytes: 136, bits: 8, zero: ZERO_8, block: 32, scales: "I8", hasOffsets: false },
    unpack(bytes, at, { codes, scales, superScales }, index) {
      superScales![index] = u16(bytes, at);
      const high = u16(bytes, at + 2);
      for (let block = 0; block < 8; block += 1) {
        const low = (bytes[at + 4 + (block >> 1)]! >> (4 * (block & 1))) & 15;
        scales[index * 8 + block] = (low | (((high >> (2 * block)) & 3) << 4)) - 32;
        nonlinearNibbles(bytes, at + 8 + block * 16, codes, index * SUPER + block * 32);
      }
    },
  },
};

/** The names of block types by GGUF's number. */
export const BLOCK_TYPE_NAMES: ReadonlyMap<number, BlockTypeName> = new Map(
  (Object.keys(BLOCK_TYPES) as BlockTypeName[]).map((name) => [BLOCK_TYPES[name].id, name]),
);

/** The block type of a stored type, if it is one. */
export function blockTypeOf(dtype: StoredType): BlockType | undefined {
  return Object.hasOwn(BLOCK_TYPES, dtype) ? BLOCK_TYPES[dtype as BlockTypeName] : undefined;
}

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

// 16 bytes: elements 0 to 15 are their lower halves, 16 to 31 their upper ones.
function nibbles(bytes: Uint8Array, at: number, codes: Uint8Array, to: number): void {
  for (let each = 0; each < 16; each += 1) {
    const byte = bytes[at + each]!;
    codes[to + each] = byte & 15;
    codes[to + 16 + each] = byte >> 4;
  }
}

// The same for codes of four bits that stand for numbers of a table.
function nonlinearNibbles(bytes: Uint8Array, at: number, codes: Uint8Array, to: number): void {
  nibbles(bytes, at, codes, to);
  for (let each = to; each < to + 32; each += 1) codes[each] = IQ4[codes[each]!]!;
}

// A fifth bit of each of 32 elements, then their other four as above.
function fiveBits(bytes: Uint8Array, at: number, codes: Uint8Array, { to, add }: { to: number; add: number }): void {
  for (let each = 0; each < 16; each += 1) {
    const byte = bytes[at + 4 + each]!;
    const low = (bytes[at + (each >> 3)]! >> (each & 7)) & 1;
    const high = (bytes[at + 2 + (each >> 3)]! >> (each & 7)) & 1;
    codes[to + each] = ((byte & 15) | (low << 4)) + add;
    codes[to + 16 + each] = ((byte >> 4) | (high << 4)) + add;
  }
}

// Halves of 128 elements share 32 bytes: 32 elements for each two bits, from the lowest.
function twoBits(bytes: Uint8Array, at: number, each: number): number {
  return (bytes[at + (each >> 7) * 32 + (each & 31)]! >> (2 * ((each >> 5) & 3))) & 3;
}

// Each 64 elements share 32 bytes: the lower halves, then the upper ones.
function halfOf(bytes: Uint8Array, at: number, each: number): number {
  const byte = bytes[at + (each >> 6) * 32 + (each & 31)]!;
  return (each & 32) === 0 ? byte & 15 : byte >> 4;
}

// Two factors, then eight pairs of a scale and an offset of six bits each in 12 bytes (get_scale_min_k4).
function sixBitPairs(bytes: Uint8Array, at: number, to: UnpackedBlocks, index: number): void {
  to.superScales![index] = u16(bytes, at);
  to.superOffsets![index] = u16(bytes, at + 2) ^ SIGN_OF_F16;
  const packed = at + 4;
  for (let pair = 0; pair < 8; pair += 1) {
    const [a, b] = [bytes[packed + pair]!, bytes[packed + pair + 4]!];
    const early = pair < 4 ? 0 : bytes[packed + pair - 4]!;
    to.scales[index * 8 + pair] = pair < 4 ? a & 63 : (b & 15) | ((early >> 6) << 4);
    to.offsets![index * 8 + pair] = pair < 4 ? b & 63 : (b >> 4) | ((a >> 6) << 4);
  }
}
