// Qwen2.5-VL as a family of text encoders: that of Qwen-Image and its Edit releases.
import type { LanguageNumbers, PatchGrid, TextEncoderFamily, VisionNumbers } from "../text-encoder-family.js";
import { buildLanguageModel, isIdleInTextEncoder, multimodalRope } from "./language.js";
import { type LanguageConfig, languageConfig, type VisionConfig, visionConfig } from "./text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "./vision.js";

/** Queries, keys and values of the language model, and every linear of the vision tower (transformers modeling_qwen2_5_vl.py). */
const BIASED =
  /^(?:model\.layers\.\d+\.self_attn\.[qkv]_proj|visual\.(?:blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.(?:gate|up|down)_proj)|merger\.mlp\.[02]))$/;

/** The family of Qwen2.5-VL. What no other family knows is taken for one, so that it is refused by what it lacks of it. */
export const QWEN_2_5_VL: TextEncoderFamily = {
  name: "Qwen2.5-VL",
  conventions: {
    template: "qwen-image-edit-plus",
    vocabulary: "qwen2.5",
    keepsImageTokens: true,
    // CLIP's, which Qwen2-VL kept.
    pixels: { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] },
    recorded: {},
    references: undefined,
  },
  isOf: () => true,
  languageConfig,
  visionConfig,
  buildLanguageModel,
  buildVisionTower,
  languageFeeds(positions: readonly (readonly number[])[], config: LanguageNumbers) {
    const { cos, sin } = multimodalRope(positions, config as LanguageConfig);
    return { rope_cos: cos, rope_sin: sin };
  },
  visionFeeds: (grid: PatchGrid, config: VisionNumbers) => ({ ...visionGeometry(grid, config as VisionConfig) }),
  isIdle: isIdleInTextEncoder,
  isBiased: (module) => BIASED.test(module),
  visionBlockOf(name, { blocks }) {
    const last = name.startsWith("visual.merger.") ? blocks - 1 : 0;
    return Number(/^visual\.blocks\.(\d+)\./.exec(name)?.[1] ?? last);
  },
};
