// The tiny models of Qwen-Image-2.1's families, fixtures/tiny-2.
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type WritableTensor, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { fixture } from "./golden.js";

/** Rows of the published table of token embeddings. */
const VOCABULARY = 151_936;

/** Token embeddings [vocabulary, width] of fixtures/oracle/qwen_image_2/text_encoder.py (embedding_rows), which stores none. */
function embeddingRows(width: number): WritableTensor {
  const data = new Float32Array(VOCABULARY * width);
  for (let row = 0; row < VOCABULARY; row += 1)
    for (let column = 0; column < width; column += 1)
      data[row * width + column] = (((31 * row + 17 * column ** 2 + 7) % 251) - 125) / 64;
  return { ...float32([VOCABULARY, width], data), storedAs: "BF16" };
}

/** How a copy of the tiny text encoder is written. */
export interface TinyTextEncoder {
  readonly folder?: string;
  /** Other names of its tensors. */
  readonly rename?: (name: string) => string;
  /** Whether a tensor is left out. */
  readonly without?: (name: string) => boolean;
  readonly storedAs?: WritableTensor["storedAs"];
  /** Another configuration. */
  readonly config?: (text: string) => string;
}

/** Writes the tiny Qwen3-VL text encoder with its table of token embeddings, and gives the path. */
export async function tinyTextEncoder2({
  folder,
  rename = (name) => name,
  without = () => false,
  storedAs,
  config = (text) => text,
}: TinyTextEncoder = {}): Promise<string> {
  const { tensors, metadata } = await readSafetensors(fixture("tiny-2/text-encoder.safetensors"));
  const written: Record<string, WritableTensor> = {
    [rename("model.language_model.embed_tokens.weight")]: embeddingRows(32),
  };
  for (const [name, stored] of tensors) {
    if (without(name)) continue;
    const values = float32(stored.shape, await readTensor(stored));
    written[rename(name)] = storedAs === undefined ? values : { ...values, storedAs };
  }
  const path = join(folder ?? (await mkdtemp(join(tmpdir(), "qedit-tiny-2-"))), "tiny_qwen3vl.safetensors");
  await writeSafetensors(path, written, { ...metadata, config: config(metadata["config"]!) });
  return path;
}
