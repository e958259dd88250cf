// Model files that lack a block: refused by its name.
import { expect, test } from "vitest";
import { examine } from "../../src/catalog/local/examine.js";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openPart } from "../../src/checkpoint/open.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { reviewPart } from "../../src/models/review-part.js";
import { fixture } from "../support/golden.js";

const TRANSFORMER = "tiny/transformer-fp32.safetensors";
const TEXT_ENCODER = "tiny/text-encoder-fp32.safetensors";
const QWEN_3 = "tiny-2/text-encoder.safetensors";

function renamed(checkpoint: Checkpoint, from: string, to: string): Checkpoint {
  const own = (name: string) => (name.startsWith(`${from}.`) ? to + name.slice(from.length) : name);
  return { ...checkpoint, tensors: new Map([...checkpoint.tensors].map(([name, each]) => [own(name), each])) };
}

function blocksOf({ tensors }: Checkpoint, list: string): number {
  const numbers = [...tensors.keys()].flatMap((name) =>
    name.startsWith(`${list}.`) ? [name.slice(list.length + 1)] : [],
  );
  return Math.max(...numbers.map((each) => Number.parseInt(each, 10))) + 1;
}

test.each<[string, ModelPart, string]>([
  [TRANSFORMER, "transformer", "transformer_blocks"],
  ["tiny-2/transformer.safetensors", "transformer", "transformer_blocks"],
  [TEXT_ENCODER, "text_encoder", "model.layers"],
  [TEXT_ENCODER, "text_encoder", "visual.blocks"],
  [QWEN_3, "text_encoder", "model.layers"],
  [QWEN_3, "text_encoder", "visual.blocks"],
  [QWEN_3, "text_encoder", "visual.deepstack_merger_list"],
  ["tiny/vae.safetensors", "vae", "encoder.downsamples"],
  ["tiny/vae.safetensors", "vae", "decoder.upsamples"],
  ["tiny-2/vae.safetensors", "vae", "decoder.upsamples"],
])("of %s, the %s: a gap in the numbers of %s", async (file, part, list) => {
  const checkpoint = await openPart(fixture(file), part);
  const last = blocksOf(checkpoint, list) - 1;
  expect(() => reviewPart(renamed(checkpoint, `${list}.${last}`, `${list}.${last + 1}`), part)).toThrow(
    expect.objectContaining({
      code: "QEDIT_E_CHECKPOINT",
      message: `Cannot use ${checkpoint.file}: it has "${list}.${last + 1}", and no "${list}.${last}"`,
    }),
  );
});

test("a file with a gap is identified by the blocks before it", async () => {
  const checkpoint = await openPart(fixture(TRANSFORMER), "transformer");
  const { network, refusal } = await examine(renamed(checkpoint, "transformer_blocks.1", "transformer_blocks.7"));
  expect(network).toBe("Qwen-Image or Qwen-Image-Edit transformer, 1 blocks");
  expect(refusal).toContain('it has "transformer_blocks.7", and no "transformer_blocks.1"');
});
