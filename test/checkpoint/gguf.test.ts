// GGUF files: what is read of them, what is put together, and what is refused.
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { wouldReadSame } from "../../src/checkpoint/file-identity.js";
import { identified, openCheckpoint, openPart } from "../../src/checkpoint/open.js";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { reviewPart } from "../../src/models/review-part.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { temporaryFolder } from "../support/folder.js";
import { F32, floats, type GgufTensor, type GgufWritten, ggufBytes, repackedTo, writeGguf } from "../support/gguf.js";
import { fixture } from "../support/golden.js";
import { LLAMA_NAMES } from "../support/llama-names.js";

const folder = temporaryFolder();
let files = 0;
const place = () => folder.at(`${files++}.gguf`);
const one = floats([2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));

async function refusalOf(bytes: Uint8Array): Promise<string> {
  const path = place();
  await writeFile(path, bytes);
  const error = await openCheckpoint(path).then(
    () => "opened",
    (reason: Error) => reason.message,
  );
  return error.replace(path, "FILE");
}

test("tensors have their dimensions outermost first, and the type that they are stored as", async () => {
  const path = await writeGguf(place(), {
    values: { "general.architecture": { text: "qwen_image" }, "some.numbers": { i32s: [1, 2] } },
    tensors: { "img_in.weight": one, "img_in.bias": { shape: [16], type: 30, bytes: new Uint8Array(32) } },
  });
  const { tensors, metadata } = await openCheckpoint(path);
  expect([...tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    ["img_in.weight", "F32", [2, 3]],
    ["img_in.bias", "BF16", [16]],
  ]);
  expect([...(await readTensor(tensors.get("img_in.weight")!))]).toEqual([1, 2, 3, 4, 5, 6]);
  expect(metadata).toMatchObject({ "general.architecture": "qwen_image", "some.numbers": "[1,2]" });
});

test("a tensor of more dimensions than ggml has takes its original shape", async () => {
  const path = await writeGguf(place(), {
    values: { "comfy.gguf.orig_shape.a": { i32s: [1, 2, 1, 3, 1] } },
    tensors: { a: one },
  });
  expect((await openCheckpoint(path)).tensors.get("a")!.shape).toEqual([1, 2, 1, 3, 1]);
});

test("vocabularies longer than the first read are passed over", async () => {
  const texts = Array.from({ length: 120_000 }, (_, index) => `token ${index} of a vocabulary`);
  const path = await writeGguf(place(), { values: { "tokenizer.ggml.tokens": { texts } }, tensors: { a: one } });
  expect([...(await openCheckpoint(path)).tensors.keys()]).toEqual(["a"]);
});

describe("a file is refused that", () => {
  const good = { tensors: { a: one } };

  test.each([
    ["is of version 1", ggufBytes({ ...good, version: 1 }), "version 1 of GGUF, wanted 2 or 3"],
    ["is big-endian", ggufBytes({ ...good, version: 0x03000000 }), "it is big-endian"],
    [
      "counts more tensors than there can be",
      ggufBytes({ ...good, counts: { tensors: 2n ** 62n } }),
      "tensors, at most",
    ],
    ["counts more keys than there can be", ggufBytes({ ...good, counts: { keys: 2n ** 40n } }), "keys, at most"],
    ["counts one more key than it has", ggufBytes({ ...good, counts: { keys: 1n } }), "Cannot read FILE"],
    ["is cut off in its header", ggufBytes(good).slice(0, 40), "the header is cut off"],
    ["is cut off in its data", ggufBytes(good).slice(0, -4), "it is cut off"],
    ["has bytes that belong to nothing", Buffer.concat([ggufBytes(good), Buffer.alloc(64)]), "belongs to nothing"],
    [
      "names a tensor twice",
      ggufBytes({
        tensors: [
          ["a", one],
          ["a", one],
        ],
      }),
      'the tensor "a" twice',
    ],
    [
      "lays tensors over each other",
      ggufBytes({ tensors: { a: floats([32], new Float32Array(32)), b: { ...one, offset: 64 } } }),
      "begins at byte",
    ],
    ["has an unknown type", ggufBytes({ tensors: { a: { ...one, type: 99 } } }), "stored as number 99"],
    ["has a type that is not repacked", ggufBytes({ tensors: { a: { ...one, type: 21 } } }), "stored as IQ3_S"],
    ["has rows that are no blocks", ggufBytes({ tensors: { a: { ...one, type: 2 } } }), "no multiple of Q4_0's 32"],
    [
      "has original rows that are no blocks",
      ggufBytes({
        values: { "comfy.gguf.orig_shape.a": { i32s: [4, 16] } },
        tensors: { a: { shape: [2, 32], type: 2, bytes: new Uint8Array(36) } },
      }),
      "has rows of 16, no multiple of Q4_0's 32",
    ],
    [
      "has more dimensions than ggml",
      ggufBytes({ tensors: { a: { ...one, shape: [1, 1, 1, 2, 3] } } }),
      "5 dimensions",
    ],
    ["is larger than any", ggufBytes({ tensors: { a: { ...one, shape: [2 ** 40, 2 ** 40] } } }), "too large"],
    [
      "has an alignment of 24",
      ggufBytes({ ...good, values: { "general.alignment": { u32: 24 } } }),
      "wanted a power of two",
    ],
    ["is one of several parts", ggufBytes({ ...good, values: { "split.count": { u32: 3 } } }), "one of 3 parts"],
  ])("%s", async (_, bytes, reason) => {
    expect(await refusalOf(bytes)).toContain(reason);
  });
});

test("scales that are not finite are refused by the name of their tensor", async () => {
  const bytes = new Uint8Array(18);
  new DataView(bytes.buffer).setUint16(0, 0x7e00, true);
  const path = await writeGguf(place(), { tensors: { "a.weight": { shape: [1, 32], type: 2, bytes } } });
  const repacking = repackedTo(folder.at("nan.safetensors"), await openCheckpoint(path));
  await expect(repacking).rejects.toThrow('"a.weight"');
});

async function asLlamaWrites(original: Checkpoint) {
  const [language, vision]: [Record<string, GgufTensor>, Record<string, GgufTensor>] = [{}, {}];
  for (const [name, stored] of original.tensors) {
    const bytes = await readBytes(stored);
    const { shape } = stored;
    const to = name.startsWith("visual.") ? vision : language;
    if (name === "visual.patch_embed.proj.weight") {
      const [out, channels, , ...patch] = shape as [number, number, number, ...number[]];
      const frame = patch.reduce((product, dim) => product * dim, 4);
      for (const index of [0, 1]) {
        const parts = Array.from({ length: out * channels }, (_, at) =>
          bytes.subarray((2 * at + index) * frame, (2 * at + index + 1) * frame),
        );
        const own = { shape: [out, channels, ...patch], type: F32, bytes: new Uint8Array(Buffer.concat(parts)) };
        vision[`v.patch_embd.weight${index === 0 ? "" : ".1"}`] = own;
      }
    } else if (/attn\.qkv\.(weight|bias)$/.test(name)) {
      const rows = shape[0]! / 3;
      ["q", "k", "v"].forEach((each, index) => {
        const part = bytes.subarray((index * bytes.length) / 3, ((index + 1) * bytes.length) / 3);
        const llama = name.replace(/^visual\.blocks\.(\d+)\.attn\.qkv/, `v.blk.$1.attn_${each}`);
        vision[llama] = { shape: [rows, ...shape.slice(1)], type: F32, bytes: part };
      });
    } else {
      const rename = LLAMA_NAMES.find(([from]) => from.test(name));
      to[rename ? name.replace(...rename) : name] = { shape, type: F32, bytes };
    }
  }
  return { language, vision };
}

describe("a text encoder as llama.cpp writes it, with its mmproj beside it", async () => {
  const original = await readSafetensors(fixture("tiny/text-encoder-fp32.safetensors"));
  const config = checkpointConfig(original);
  const [text, sight] = [languageConfig(numbersOf(original), config), visionConfig(numbersOf(original), config)];
  const { language, vision } = await asLlamaWrites(original);
  const values: Record<string, GgufWritten> = {
    "general.architecture": { text: "qwen2vl" },
    "qwen2vl.block_count": { u32: text.layers },
    "qwen2vl.attention.head_count": { u32: text.heads },
    "qwen2vl.attention.head_count_kv": { u32: text.keyValueHeads },
    "qwen2vl.attention.layer_norm_rms_epsilon": { f32: text.epsilon },
    "qwen2vl.rope.freq_base": { f32: text.ropeTheta },
    "qwen2vl.rope.dimension_sections": { i32s: [...text.ropeSections, 0] },
  };
  const seen: Record<string, GgufWritten> = {
    "general.architecture": { text: "clip" },
    "clip.vision.attention.head_count": { u32: sight.heads },
    "clip.vision.block_count": { u32: sight.blocks },
    "clip.vision.window_size": { u32: sight.windowSize },
    "clip.vision.n_wa_pattern": { u32: sight.fullAttentionBlocks[0]! + 1 },
  };
  const path = await writeGguf(folder.at("encoder-Q8_0.gguf"), { values, tensors: language });
  await writeGguf(folder.at("encoder-mmproj-F16.gguf"), { values: seen, tensors: vision });
  await writeGguf(folder.at("other-mmproj-F16.gguf"), { values: seen, tensors: { a: one } });
  const found = await openCheckpoint(path);

  test("has the tensors under the published names but the word head, those that llama.cpp splits in one", async () => {
    const ready = await repackedTo(folder.at("encoder.safetensors"), found);
    const tensors = new Map([...original.tensors].filter(([name]) => name !== "lm_head.weight"));
    const names = (all: Iterable<string>) => [...all].sort();
    expect(names(ready.tensors.keys())).toEqual(names(tensors.keys()));
    for (const [name, stored] of tensors) {
      const own = ready.tensors.get(name)!;
      expect([name, own.shape]).toEqual([name, stored.shape]);
      expect(await readTensor(own), name).toEqual(await readTensor(stored));
    }
  });

  test("has the configuration of its headers", () => {
    const numbers = numbersOf(found);
    const read = checkpointConfig(found);
    expect(languageConfig(numbers, read)).toEqual({
      ...text,
      epsilon: Math.fround(text.epsilon),
      ropeTheta: Math.fround(text.ropeTheta),
    });
    expect(visionConfig(numbers, read)).toMatchObject({ heads: sight.heads, windowSize: sight.windowSize });
  });

  test("takes of one mmproj in several types the published one, and refuses to choose between towers", async () => {
    await mkdir(folder.at("types"));
    const own = await writeGguf(folder.at("types/model-Q4_K_M.gguf"), { values, tensors: language });
    for (const type of ["F16", "F32"])
      await writeGguf(folder.at(`types/mmproj-${type}.gguf`), { values: seen, tensors: { a: one } });
    await writeGguf(folder.at("types/mmproj-BF16.gguf"), { values: seen, tensors: vision });
    expect((await openCheckpoint(own)).tensors.has("visual.blocks.0.norm1.weight")).toBe(true);
    await writeGguf(folder.at("types/another-mmproj-F16.gguf"), { values: seen, tensors: vision });
    await expect(openCheckpoint(own)).rejects.toThrow("Cannot choose the vision tower");
  });

  test.each([
    ["another that is taken before it", (at: string) => rename(at, folder.at("beside/mmproj-BF16.gguf"))],
    ["its removal", () => rm(folder.at("beside/mmproj-F16.gguf"))],
    ["one that leaves a choice", (at: string) => rename(at, folder.at("beside/another-mmproj-F16.gguf"))],
  ])("is known to be read otherwise after %s", async (_, change) => {
    await rm(folder.at("beside"), { recursive: true, force: true });
    await mkdir(folder.at("beside"));
    const own = await writeGguf(folder.at("beside/model-Q4_K_M.gguf"), { values, tensors: language });
    await writeGguf(folder.at("beside/mmproj-F16.gguf"), { values: seen, tensors: vision });
    const next = await writeGguf(folder.at("beside/next"), { values: seen, tensors: vision });
    const read = await identified((options) => openCheckpoint(own, options));
    expect(await wouldReadSame(read)).toBe(true);
    await change(next);
    expect(await wouldReadSame(read)).toBe(false);
  });

  test("is refused with the mmproj of a model of another width", async () => {
    await mkdir(folder.at("other"));
    const own = await writeGguf(folder.at("other/model-Q8_0.gguf"), { values, tensors: language });
    const { shape, bytes } = vision["mm.2.weight"]!;
    const narrow = {
      ...vision["mm.2.weight"]!,
      shape: [shape[0]! / 2, shape[1]!],
      bytes: bytes.slice(bytes.length / 2),
    };
    await writeGguf(folder.at("other/mmproj.gguf"), { values: seen, tensors: { ...vision, "mm.2.weight": narrow } });
    const opened = await openCheckpoint(own);
    expect(() => visionConfig(numbersOf(opened), checkpointConfig(opened))).toThrow("numbers a token");
  });

  test("is not its own vision tower where its name says mmproj", async () => {
    await mkdir(folder.at("named"));
    const own = await writeGguf(folder.at("named/no-mmproj-Q8_0.gguf"), { values, tensors: language });
    const opened = await openPart(own, "text_encoder");
    expect(reviewPart(opened, "text_encoder").unread).toEqual([]);
    expect(() => visionConfig(numbersOf(opened), checkpointConfig(opened))).toThrow("has no vision weights");
  });

  test("is refused where its headers say another number of blocks", async () => {
    await mkdir(folder.at("more"));
    const more = { ...values, "qwen2vl.block_count": { u32: text.layers + 1 } };
    const own = await writeGguf(folder.at("more/model-Q8_0.gguf"), { values: more, tensors: language });
    const deeper = { ...seen, "clip.vision.block_count": { u32: sight.blocks + 1 } };
    await writeGguf(folder.at("more/mmproj.gguf"), { values: deeper, tensors: vision });
    const opened = await openCheckpoint(own);
    const [numbers, read] = [numbersOf(opened), checkpointConfig(opened)];
    expect(() => languageConfig(numbers, read)).toThrow("3 blocks (num_hidden_layers), and it has 2 (model.layers)");
    expect(() => visionConfig(numbers, read)).toThrow("4 blocks (depth), and it has 3 (visual.blocks)");
  });

  test("is refused where the mmproj lacks a part", async () => {
    const { "v.patch_embd.weight.1": _, ...rest } = vision;
    const broken = await writeGguf(folder.at("mmproj-alone.gguf"), { values: seen, tensors: rest });
    await expect(openCheckpoint(broken)).rejects.toThrow('it has no "v.patch_embd.weight.1"');
  });
});
