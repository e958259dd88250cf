// Qwen3-VL as a family of text encoders: that of Qwen-Image-2.1.
import type { LanguageNumbers, PatchGrid, TextEncoderFamily, VisionNumbers } from "../text-encoder-family.js";
import {
  isQwen3,
  type Qwen3Language,
  type Qwen3Vision,
  qwen3LanguageConfig,
  qwen3VisionConfig,
} from "./qwen3-config.js";
import { buildQwen3Language, interleavedRope, isIdleInQwen3 } from "./qwen3-language.js";
import { buildQwen3Vision, qwen3Geometry } from "./qwen3-vision.js";

/** Every linear of the vision tower, and none of the language model (transformers modeling_qwen3_vl.py; attention_bias false). */
const BIASED =
  /^visual\.(?:blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.linear_fc[12])|(?:merger|deepstack_merger_list\.\d+)\.linear_fc[12])$/;

/** The family of Qwen3-VL. */
export const QWEN_3_VL: TextEncoderFamily = {
  name: "Qwen3-VL",
  conventions: {
    template: "qwen-image-2.1",
    vocabulary: "qwen3",
    keepsImageTokens: false,
    pixels: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    recorded: { family: "Qwen3-VL" },
    // A token of the vision tower is 2 × 2 latent cells, each of which is a token of the transformer.
    references: { cell: 16, rules: { multiple: 32, tokenCells: 1, mostStretch: 0.02, seesReferences: true } },
  },
  isOf: isQwen3,
  languageConfig: qwen3LanguageConfig,
  visionConfig: qwen3VisionConfig,
  buildLanguageModel: buildQwen3Language,
  buildVisionTower: buildQwen3Vision,
  languageFeeds(positions: readonly (readonly number[])[], config: LanguageNumbers) {
    const { cos, sin } = interleavedRope(positions, config as Qwen3Language);
    return { rope_cos: cos, rope_sin: sin };
  },
  visionFeeds: (grid: PatchGrid, config: VisionNumbers) => ({ ...qwen3Geometry(grid, config as Qwen3Vision) }),
  isIdle: isIdleInQwen3,
  isBiased: (module) => BIASED.test(module),
  visionBlockOf(name, config) {
    const merged = /^visual\.deepstack_merger_list\.(\d+)\./.exec(name)?.[1];
    if (merged !== undefined) return (config as Qwen3Vision).featureBlocks[Number(merged)] ?? 0;
    const last = name.startsWith("visual.merger.") ? config.blocks - 1 : 0;
    return Number(/^visual\.blocks\.(\d+)\./.exec(name)?.[1] ?? last);
  },
};
