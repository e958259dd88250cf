// Writes a transformer's GGUF file with random weights: matrices of the blocks in one type, all else in float32.
import { open } from "node:fs/promises";
import { STORED_BYTES } from "../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../src/checkpoint/open.js";
import type { HeaderEntry } from "../src/checkpoint/safetensors/safetensors-writer.js";
import { randn } from "../src/sampling/noise/noise.js";
import { F32, sparseGguf } from "../test/support/gguf.js";

/** Bytes that tensors repeat: a prime number of float32. */
const TILE = 4 * 1_000_003;

/** Whether a tensor is stored in blocks. */
function isMatrix({ name, shape }: HeaderEntry): boolean {
  return shape.length === 2 && name.startsWith("transformer_blocks.");
}

/** Writes these tensors, matrices of the blocks in `type`; gives the path. No two weights are equal, so that ONNX Runtime cannot share their copies. */
export async function randomGguf(path: string, tensors: readonly HeaderEntry[], type: BlockTypeName): Promise<string> {
  const stored = tensors.map((tensor) => {
    const dtype = isMatrix(tensor) ? type : "F32";
    const length = tensor.shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
    return [tensor.name, { shape: tensor.shape, type: dtype === "F32" ? F32 : BLOCK_TYPES[dtype].id, length }] as const;
  });
  await sparseGguf(path, { "general.architecture": { text: "qwen_image" } }, Object.fromEntries(stored));
  const floats = new Uint8Array(randn(0, TILE / 4).map((value) => value * 0.02).buffer);
  // Any two bytes below 32 are a float16 between 0 and 0.007.
  const blocks = floats.map((byte) => byte & 31);
  const { tensors: places } = await openCheckpoint(path);
  await using handle = await open(path, "r+");
  for (const [index, tensor] of tensors.entries()) {
    const { offset, length } = places.get(tensor.name)!;
    const tile = isMatrix(tensor) ? blocks : floats;
    let from = (index * 4 * 314_159) % TILE;
    for (let at = 0; at < length; ) {
      const part = tile.subarray(from, Math.min(from + length - at, TILE));
      await handle.write(part, 0, part.length, offset + at);
      at += part.length;
      from = 0;
    }
  }
  return path;
}
