// A checkpoint as GGUF tools quantise it: the matrices of its blocks in Q8_0 or Q4_0, the rest as float32.
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { rounded } from "../../src/checkpoint/packed/quantize.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { floats, type GgufTensor, writeGguf } from "./gguf.js";

const BLOCK = 32;
const TYPES = { Q8_0: { id: 8, bytes: 34, bits: 8 }, Q4_0: { id: 2, bytes: 18, bits: 4 } } as const;

/** Writes the GGUF file of a transformer; gives its path. */
export async function writeQuantised(path: string, checkpoint: Checkpoint, type: keyof typeof TYPES): Promise<string> {
  const tensors: Record<string, GgufTensor> = {};
  for (const [name, stored] of checkpoint.tensors) {
    const values = await readTensor(stored);
    const isMatrix =
      name.startsWith("transformer_blocks.") && stored.shape.length === 2 && stored.shape[1]! % BLOCK === 0;
    tensors[name] = isMatrix
      ? { shape: stored.shape, type: TYPES[type].id, bytes: blocksOf(values, type) }
      : floats(stored.shape, values);
  }
  return writeGguf(path, { values: { "general.architecture": { text: "qwen_image" } }, tensors });
}

function blocksOf(values: Float32Array, type: keyof typeof TYPES): Uint8Array {
  const { bytes, bits } = TYPES[type];
  const { codes, scales } = rounded(values, { bits, block: BLOCK });
  const all = new Uint8Array(scales.length * bytes);
  const view = new DataView(all.buffer);
  const codeOf = (at: number) => (bits === 8 ? codes[at]! : (codes[at >> 1]! >> (4 * (at & 1))) & 15);
  for (const [block, scale] of scales.entries()) {
    view.setUint16(block * bytes, scale, true);
    const from = block * BLOCK;
    for (let index = 0; index < bytes - 2; index += 1)
      all[block * bytes + 2 + index] =
        bits === 8 ? codeOf(from + index) ^ 128 : codeOf(from + index) | (codeOf(from + 16 + index) << 4);
  }
  return all;
}
