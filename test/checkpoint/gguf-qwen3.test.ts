// The text encoder of Qwen-Image-2.1 as llama.cpp writes it: architecture `qwen3vl`, with its mmproj beside it.
import { expect, test } from "vitest";
import { openPart } from "../../src/checkpoint/open.js";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { checkpointConfig } from "../../src/checkpoint/safetensors/safetensors.js";
import { languageConfig, visionConfig } from "../../src/models/text-encoders.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { temporaryFolder } from "../support/folder.js";
import { F32, type GgufTensor, repackedTo, writeGguf } from "../support/gguf.js";
import { fixture } from "../support/golden.js";

const folder = temporaryFolder();

// llama.cpp's names, by the published ones (convert_hf_to_gguf.py, Qwen3VLVisionModel and Qwen3VLTextModel).
const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^model\.norm\./, "output_norm."],
  [/^model\.layers\.(\d+)\.input_layernorm\./, "blk.$1.attn_norm."],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\./, "blk.$1.ffn_norm."],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\./, "blk.$1.attn_$2."],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm\./, "blk.$1.attn_$2_norm."],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\./, "blk.$1.attn_output."],
  [/^model\.layers\.(\d+)\.mlp\.(\w+)_proj\./, "blk.$1.ffn_$2."],
  [/^visual\.blocks\.(\d+)\.norm([12])\./, "v.blk.$1.ln$2."],
  [/^visual\.blocks\.(\d+)\.attn\.qkv\./, "v.blk.$1.attn_qkv."],
  [/^visual\.blocks\.(\d+)\.attn\.proj\./, "v.blk.$1.attn_out."],
  [/^visual\.blocks\.(\d+)\.mlp\.linear_fc1\./, "v.blk.$1.ffn_up."],
  [/^visual\.blocks\.(\d+)\.mlp\.linear_fc2\./, "v.blk.$1.ffn_down."],
  [/^visual\.patch_embed\.proj\.bias/, "v.patch_embd.bias"],
  [/^visual\.pos_embed\./, "v.position_embd."],
  [/^visual\.merger\.norm\./, "v.post_ln."],
  [/^visual\.merger\.linear_fc1\./, "mm.0."],
  [/^visual\.merger\.linear_fc2\./, "mm.2."],
  [/^visual\.deepstack_merger_list\.(\d+)\.(norm)\./, "v.deepstack.$1.$2."],
  [/^visual\.deepstack_merger_list\.(\d+)\.linear_(fc\d)\./, "v.deepstack.$1.$2."],
];

test("language model and vision tower come under the published names, with the configuration of their headers", async () => {
  const original = await openPart(fixture("tiny-2/text-encoder.safetensors"), "text_encoder");
  const config = checkpointConfig(original);
  const [text, sight] = [languageConfig(numbersOf(original), config), visionConfig(numbersOf(original), config)];
  const [language, vision]: [Record<string, GgufTensor>, Record<string, GgufTensor>] = [{}, {}];
  for (const [name, stored] of original.tensors) {
    const [bytes, { shape }] = [await readBytes(stored), stored];
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
      continue;
    }
    const rename = NAMES.find(([from]) => from.test(name))!;
    (name.startsWith("visual.") ? vision : language)[name.replace(...rename)] = { shape, type: F32, bytes };
  }
  const path = await writeGguf(folder.at("Qwen3VL-8B-Instruct-Q4_K_M.gguf"), {
    values: {
      "general.architecture": { text: "qwen3vl" },
      "qwen3vl.attention.head_count": { u32: 4 },
      "qwen3vl.attention.head_count_kv": { u32: 2 },
      "qwen3vl.attention.layer_norm_rms_epsilon": { f32: 1e-6 },
      "qwen3vl.rope.freq_base": { f32: 5e6 },
      "qwen3vl.rope.dimension_sections": { i32s: [4, 2, 2, 0] },
      "qwen3vl.n_deepstack_layers": { u32: 2 },
    },
    tensors: language,
  });
  await writeGguf(folder.at("mmproj-Qwen3VL-8B-Instruct-F16.gguf"), {
    values: {
      "general.architecture": { text: "clip" },
      "clip.projector_type": { text: "qwen3vl_merger" },
      "clip.vision.attention.head_count": { u32: 2 },
      "clip.vision.block_count": { u32: 3 },
    },
    tensors: vision,
  });
  const found = await openPart(path, "text_encoder");
  const ready = await repackedTo(folder.at("ready.safetensors"), found);
  expect([...ready.tensors.keys()].sort()).toEqual([...original.tensors.keys()].sort());
  for (const [name, stored] of original.tensors) {
    const own = ready.tensors.get(name)!;
    expect([name, own.shape]).toEqual([name, stored.shape]);
    expect(await readTensor(own), name).toEqual(await readTensor(stored));
  }
  const read = checkpointConfig(found);
  expect(languageConfig(numbersOf(found), read)).toEqual({ ...text, epsilon: Math.fround(1e-6) });
  expect(visionConfig(numbersOf(found), read)).toEqual(sight);
});
