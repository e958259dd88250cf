// Checkpoints of the published shapes as GGUF with random weights: the matrices of the blocks in blocks of a type, the rest in float32.
import type { BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { elementCount } from "../../src/std/tensor.js";
import { floats, writeGguf } from "../../test/support/gguf.js";
import { randomBlocks } from "../../test/support/random-blocks.js";
import { FILES } from "../networks.js";

/** Length of the noise that tensors repeat; a prime. */
const TILE = 1_000_003;
const DEVIATION = 0.02;

/** Writes the GGUF file of a transformer. */
export async function randomGguf(path: string, type: BlockTypeName): Promise<void> {
  const tensors = FILES["transformer-2"].tensors().map(({ name, shape }, index) => {
    const noise = randn(index, Math.min(elementCount(shape), TILE));
    if (shape.length === 2 && name.startsWith("transformer_blocks."))
      return [name, randomBlocks(type, shape, noise)] as const;
    // Norms scale by about 1.
    const mean = shape.length === 1 && name.endsWith(".weight") ? 1 : 0;
    const values = Float32Array.from(
      { length: elementCount(shape) },
      (_, at) => mean + DEVIATION * noise[at % noise.length]!,
    );
    return [name, floats(shape, values)] as const;
  });
  await writeGguf(path, { values: { "general.architecture": { text: "qwen_image" } }, tensors });
}
