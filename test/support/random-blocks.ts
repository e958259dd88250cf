// Random weights in GGUF's blocks.
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { elementCount } from "../../src/std/tensor.js";
import type { GgufTensor } from "./gguf.js";

/** Where blocks have their float16 scales. */
const SCALES: Partial<Record<BlockTypeName, readonly number[]>> = { Q8_0: [0], Q4_K: [0, 2], Q6_K: [208] };

/** Blocks of random codes by some noise, with scales of 2^-12: weights of some hundredths, fewer than 2^11 times that, which float16 has exactly. */
export function randomBlocks(type: BlockTypeName, shape: readonly number[], noise: Float32Array): GgufTensor {
  const { id, bytes: size, elements } = BLOCK_TYPES[type];
  const bytes = new Uint8Array((elementCount(shape) / elements) * size);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.floor(Math.abs(noise[at % noise.length]!) * 997);
  for (let at = 0; at < bytes.length; at += size)
    for (const place of SCALES[type]!) {
      bytes[at + place] = 0;
      bytes[at + place + 1] = 0x0c;
    }
  return { shape, type: id, bytes };
}
