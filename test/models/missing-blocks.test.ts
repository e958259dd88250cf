// Model files that lack a block: refused by its name, or by the number that their configuration has.
import { describe, expect, test } from "vitest";
import { examine } from "../../src/catalog/local/examine.js";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openPart } from "../../src/checkpoint/open.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { reviewPart } from "../../src/models/review-part.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";

const folder = temporaryFolder();
const TRANSFORMER = "tiny/transformer-fp32.safetensors";
const TEXT_ENCODER = "tiny/text-encoder-fp32.safetensors";
const QWEN_IMAGE_2 = "tiny-2/transformer.safetensors";
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
  [QWEN_IMAGE_2, "transformer", "transformer_blocks"],
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

describe("a file whose config says another number of blocks is refused", () => {
  const CONFIGS: readonly [string, ModelPart, string, key: string, object?: string][] = [
    [TRANSFORMER, "transformer", "transformer_blocks", "num_layers"],
    [QWEN_IMAGE_2, "transformer", "transformer_blocks", "num_layers"],
    [TEXT_ENCODER, "text_encoder", "model.layers", "num_hidden_layers", "text_config"],
    [TEXT_ENCODER, "text_encoder", "visual.blocks", "depth", "vision_config"],
    [QWEN_3, "text_encoder", "model.layers", "num_hidden_layers", "text_config"],
    [QWEN_3, "text_encoder", "visual.blocks", "depth", "vision_config"],
  ];

  test.each(CONFIGS)("of %s, the %s: %s", async (file, part, list, key) => {
    const checkpoint = await openPart(fixture(file), part);
    const last = blocksOf(checkpoint, list) - 1;
    const tensors = new Map([...checkpoint.tensors].filter(([name]) => !name.startsWith(`${list}.${last}.`)));
    expect(() => reviewPart({ ...checkpoint, tensors }, part)).toThrow(
      expect.objectContaining({
        code: "QEDIT_E_CHECKPOINT",
        message: `Cannot use ${checkpoint.file}: its config says that it has ${last + 1} blocks (${key}), and it has ${last} (${list})`,
      }),
    );
  });

  test.each(CONFIGS)("and without that number it is run with those that it has: %s, the %s: %s", async (...each) => {
    const [file, part, list, key, object] = each;
    const checkpoint = await openPart(fixture(file), part);
    const last = blocksOf(checkpoint, list) - 1;
    const tensors = new Map([...checkpoint.tensors].filter(([name]) => !name.startsWith(`${list}.${last}.`)));
    const config = JSON.parse(checkpoint.metadata["config"]!);
    delete (object === undefined ? config : config[object])[key];
    expect(reviewPart({ ...checkpoint, tensors, metadata: { config: JSON.stringify(config) } }, part).unread).toEqual(
      [],
    );
  });

  test("also by the config.json beside it, and in a text encoder's old form", async () => {
    const checkpoint = await openPart(fixture(TEXT_ENCODER), "text_encoder");
    const { text_config: text, ...config } = JSON.parse(checkpoint.metadata["config"]!);
    const metadata = { config: JSON.stringify({ ...config, ...text, num_hidden_layers: 28 }) };
    expect(() => reviewPart({ ...checkpoint, metadata }, "text_encoder")).toThrow("28 blocks (num_hidden_layers)");
    const transformer = await readSafetensors(fixture(TRANSFORMER));
    const deeper = { ...JSON.parse(transformer.metadata["config"]!), num_layers: 60 };
    const changed = { ...transformer, metadata: { config: JSON.stringify(deeper) } };
    await rewritten(changed, { folder: folder.at("."), file: "diffusion_pytorch_model.safetensors", config: true });
    const opened = await openPart(folder.at("."), "transformer");
    expect(() => reviewPart(opened, "transformer")).toThrow("60 blocks (num_layers), and it has 2");
  });
});

test.each([
  [
    "tiny/vae.safetensors",
    "encoder.downsamples.10",
    "level 3 of its encoder has 1 of the 2 residual blocks that others have",
  ],
  [
    "tiny/vae.safetensors",
    "decoder.upsamples.14",
    "level 3 of its decoder has 2 of the 3 residual blocks that others have",
  ],
  ["tiny/vae.safetensors", "decoder.middle.2", "the middle of its decoder has no residual block behind its attention"],
  [
    "tiny-2/vae.safetensors",
    "decoder.upsamples.4.upsamples.2",
    "level 4 of its decoder has 2 of the 3 residual blocks",
  ],
  ["tiny-2/vae.safetensors", "encoder.middle.2", "(encoder.middle.2)"],
])("%s without its %s is refused", async (file, layer, message) => {
  const checkpoint = await openPart(fixture(file), "vae");
  const tensors = new Map([...checkpoint.tensors].filter(([name]) => !name.startsWith(`${layer}.`)));
  expect(tensors.size).toBeLessThan(checkpoint.tensors.size);
  expect(() => reviewPart({ ...checkpoint, tensors }, "vae")).toThrow(
    expect.objectContaining({ code: "QEDIT_E_CHECKPOINT", message: expect.stringContaining(message) }),
  );
});
