// Model files whose configuration contradicts their tensors, or asks for what is not computed: refused by the name of what is wrong.
import { expect, test } from "vitest";
import { openPart } from "../../src/checkpoint/open.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { reviewPart } from "../../src/models/review-part.js";
import { fixture } from "../support/golden.js";

type Config = Record<string, unknown>;

const TRANSFORMER: [string, ModelPart] = ["tiny/transformer.safetensors", "transformer"];
const QWEN_2_5: [string, ModelPart] = ["tiny/text-encoder.safetensors", "text_encoder"];
const QWEN_IMAGE_2: [string, ModelPart] = ["tiny-2/transformer.safetensors", "transformer"];
const QWEN_3: [string, ModelPart] = ["tiny-2/text-encoder.safetensors", "text_encoder"];

// The configuration with other values: those of an object are set within it.
function changed(config: Config, change: Config): Config {
  const entries = Object.entries(change).map(([key, value]) => {
    const within = config[key];
    const isObject = typeof within === "object" && within !== null && !Array.isArray(within);
    return [key, isObject ? changed(within as Config, value as Config) : value];
  });
  return { ...config, ...Object.fromEntries(entries) };
}

async function reviewed([file, part]: [string, ModelPart], change: Config): Promise<() => void> {
  const checkpoint = await openPart(fixture(file), part);
  const config = JSON.stringify(changed(JSON.parse(checkpoint.metadata["config"]!) as Config, change));
  return () => reviewPart({ ...checkpoint, metadata: { ...checkpoint.metadata, config } }, part);
}

test.each<[[string, ModelPart], Config, string]>([
  [TRANSFORMER, { attention_head_dim: 16 }, "attention_head_dim 16, and its tensors have 8"],
  [TRANSFORMER, { num_attention_heads: 6 }, "num_attention_heads 6, and its tensors have 3"],
  [TRANSFORMER, { in_channels: 16 }, "in_channels 16, and its tensors have 64"],
  [TRANSFORMER, { joint_attention_dim: 3584 }, "joint_attention_dim 3584, and its tensors have 16"],
  [QWEN_IMAGE_2, { num_attention_heads: 4 }, "num_attention_heads 4, and its tensors have 2"],
  [QWEN_IMAGE_2, { in_channels: 16 }, "in_channels 16, and its tensors have 8"],
  [QWEN_IMAGE_2, { context_in_dim: 4096 }, "context_in_dim 4096, and its tensors have 32"],
  [QWEN_2_5, { text_config: { hidden_size: 3584 } }, "hidden_size 3584, and its tensors have 16"],
  [QWEN_2_5, { text_config: { num_key_value_heads: 2 } }, "num_key_value_heads 2, and its tensors have 1"],
  [QWEN_2_5, { vision_config: { hidden_size: 1280 } }, "hidden_size 1280, and its tensors have 24"],
  [QWEN_2_5, { vision_config: { spatial_merge_size: -2 } }, "spatial_merge_size -2, and its tensors have 2"],
  [QWEN_3, { text_config: { head_dim: 128 } }, "head_dim 128, and its tensors have 16"],
  [QWEN_3, { vision_config: { patch_size: 14 } }, "patch_size 14, and its tensors have 16"],
])("of %s, %j", async (file, change, reason) => {
  expect(await reviewed(file, change)).toThrow(
    expect.objectContaining({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringMatching(
        new RegExp(`^Cannot use \\S+: its config says ${reason}: it is the config of another model$`),
      ),
      hint: expect.stringContaining("config.json"),
    }),
  );
});

test.each<[[string, ModelPart], Config, string]>([
  [TRANSFORMER, { guidance_embeds: true }, "guidance_embeds true, and only false is computed"],
  [QWEN_2_5, { text_config: { hidden_act: "gelu" } }, 'hidden_act "gelu", and only "silu" is computed'],
  [
    QWEN_2_5,
    { text_config: { rope_parameters: { rope_type: "yarn" } } },
    'rope_type "yarn", and only "default" or "mrope" is computed',
  ],
  [
    QWEN_2_5,
    { text_config: { rope_scaling: { type: "linear" } } },
    'type "linear", and only "default" or "mrope" is computed',
  ],
  [QWEN_2_5, { vision_config: { hidden_act: "quick_gelu" } }, 'hidden_act "quick_gelu", and only "silu" is computed'],
  [
    QWEN_3,
    { text_config: { rope_parameters: { mrope_interleaved: false } } },
    "mrope_interleaved false, and only true is computed",
  ],
  [QWEN_3, { vision_config: { hidden_act: "silu" } }, 'hidden_act "silu", and only "gelu_pytorch_tanh" is computed'],
])("of %s, what is not computed: %j", async (file, change, reason) => {
  expect(await reviewed(file, change)).toThrow(
    expect.objectContaining({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringMatching(new RegExp(`^Cannot use \\S+: its config asks for ${reason}$`)),
    }),
  );
});

test.each<[[string, ModelPart], Config, string]>([
  [TRANSFORMER, { patch_size: 3 }, "its tokens of 64 numbers cannot be 3 × 3 latent cells (patch_size)"],
  [TRANSFORMER, { patch_size: -2 }, "cannot be -2 × -2 latent cells (patch_size)"],
  [QWEN_IMAGE_2, { eps: 0 }, '"eps" is 0, a number above 0 is wanted'],
  [QWEN_2_5, { text_config: { num_attention_heads: 0 } }, '"num_attention_heads" is 0'],
  [QWEN_2_5, { text_config: { rms_norm_eps: -1e-6 } }, '"rms_norm_eps" is -0.000001, a number above 0 is wanted'],
  [QWEN_2_5, { text_config: { rope_parameters: { rope_theta: 0 } } }, '"rope_theta" is 0, a number above 0 is wanted'],
  [QWEN_2_5, { vision_config: { num_heads: 5 } }, '"num_heads" is 5, a number of heads that 24 divides by is wanted'],
  [QWEN_2_5, { vision_config: { window_size: 0 } }, '"window_size" is 0, at least 28 is wanted'],
  [
    QWEN_2_5,
    { vision_config: { fullatt_block_indexes: [1, 7] } },
    "blocks 1, 7 of its vision tower see the whole picture (fullatt_block_indexes), and it has 3",
  ],
])("of %s, what cannot be: %j", async (file, change, reason) => {
  expect(await reviewed(file, change)).toThrow(
    expect.objectContaining({ code: "QEDIT_E_CHECKPOINT", message: expect.stringContaining(reason) }),
  );
});
