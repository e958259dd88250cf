// Configuration of the Qwen2.5-VL text encoder: what was published (Qwen/Qwen2.5-VL-7B-Instruct config.json), overridden by what
// tensor shapes say, overridden by the checkpoint's own `config` (Qwen2_5_VLConfig, nested or flat).
import type { Weights } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import {
  blockCount,
  type ConfigJson,
  configAtLeast,
  configNumbers,
  configObject,
  configPositive,
  headCount,
  OWN_CONFIG,
  refuseOtherSizes,
  refuseOtherWays,
  statedHeads,
} from "../config-json.js";
import { foreignNetwork } from "../foreign-networks.js";
import type { LanguageNumbers, VisionNumbers } from "../text-encoder-family.js";
import { towerNumbers } from "../vision-numbers.js";

/** Configuration of the language model. */
export interface LanguageConfig extends LanguageNumbers {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly epsilon: number;
  readonly ropeTheta: number;
  /** Rotary pairs rotated by the time, row and column of a token (mrope_section). */
  readonly ropeSections: readonly number[];
}

/** Configuration of the vision tower. */
export interface VisionConfig extends VisionNumbers {
  /** Pixels along one side of an attention window. */
  readonly windowSize: number;
  /** Blocks that attend over the whole picture. */
  readonly fullAttentionBlocks: readonly number[];
  readonly epsilon: number;
}

const PUBLISHED = {
  language: { headDim: 128, epsilon: 1e-6, ropeTheta: 1e6, ropeSections: [16, 24, 24] },
  vision: {
    headDim: 80,
    windowSize: 112,
    fullAttentionBlocks: [7, 15, 23, 31],
    epsilon: 1e-6,
  },
};

/** What is computed in one way alone, as the published models are. */
const WAYS = {
  language: { hidden_act: ["silu"], rope_type: ["default", "mrope"], type: ["default", "mrope"] },
  vision: { hidden_act: ["silu"] },
};

/** The tiny model inside the package, which other tools may write without its config: recognised by its width. */
const EMBEDDED = {
  language: { ...PUBLISHED.language, width: 48, headDim: 16, ropeSections: [2, 3, 3] },
  vision: { ...PUBLISHED.vision, width: 16, headDim: 16, fullAttentionBlocks: [0] },
};

/** Reads the configuration of the language model below `model`; throws QEDIT_E_CHECKPOINT when the file has none. */
export function languageConfig(w: Weights, config: ConfigJson): LanguageConfig {
  const different = differenceOf(w);
  if (different !== undefined) {
    const network = foreignNetwork(w.names());
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file} as the text encoder: ${different}, so it is not a Qwen2.5-VL file${network === undefined ? "" : `, but ${network}`}`,
      {
        hint: `Give a Qwen2.5-VL text encoder: ${param("text_encoder", "qwen_2.5_vl_7b_fp8_scaled.safetensors")}`,
      },
    );
  }
  // Older config files are flat.
  const text = { ...config, ...configObject(config, "text_config") };
  const rope = { ...text, ...configObject(text, "rope_scaling"), ...configObject(text, "rope_parameters") };
  const [queryWidth, width] = w.shape("model.layers.0.self_attn.q_proj.weight") as [number, number];
  const keyWidth = w.shape("model.layers.0.self_attn.k_proj.weight")[0]!;
  const usual = width === EMBEDDED.language.width ? EMBEDDED.language : PUBLISHED.language;
  const heads = statedHeads(text, "num_attention_heads", { name: "q_proj", width: queryWidth, headDim: usual.headDim });
  const headDim = queryWidth / heads;
  const keyValueHeads = headCount("k_proj", keyWidth, headDim);
  refuseOtherSizes(w, text, { hidden_size: width, num_key_value_heads: keyValueHeads });
  refuseOtherWays(w, rope, WAYS.language);
  return {
    family: "Qwen2.5-VL",
    pictureFeatures: 0,
    layers: blockCount(w, text, { list: "model.layers", key: "num_hidden_layers" }),
    width,
    heads,
    keyValueHeads,
    headDim,
    epsilon: configPositive(text, "rms_norm_eps", PUBLISHED.language.epsilon),
    ropeTheta: configPositive(rope, "rope_theta", PUBLISHED.language.ropeTheta),
    ropeSections: ropeSections(rope, { headDim, file: w.file, usual: usual.ropeSections }),
  };
}

// What other text encoders have, or lack. Qwen 2 and 2.5 have biases of queries, keys and values; Qwen3 norms of queries and keys.
function differenceOf(w: Weights): string | undefined {
  const attention = w.at("model.layers.0.self_attn");
  if (!attention.has("q_proj.weight")) return "it has no model.layers";
  if (attention.has("q_norm")) return "it has norms of queries (q_norm)";
  if (!attention.has("q_proj.bias")) return "it has no biases of queries (q_proj.bias)";
  return w.has("visual.blocks.0.mlp.fc1") ? "its vision tower has another feed-forward (mlp.fc1)" : undefined;
}

// A tower of another size, as of an mmproj file of another release, would put its numbers where others belong.
function refuseOtherWidth(w: Weights): void {
  const [given] = w.shape("visual.merger.mlp.2.weight");
  const [taken] = w.has("model.norm") ? w.shape("model.norm.weight") : [given];
  if (given === taken) return;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the text encoder: its vision tower gives ${given} numbers a token, its language model takes ${taken}`,
    { hint: "Put the mmproj file of the same model beside a GGUF file, and no other" },
  );
}

function ropeSections(
  rope: ConfigJson,
  { headDim, file, usual }: { readonly headDim: number; readonly file: string; readonly usual: readonly number[] },
): readonly number[] {
  const sections = configNumbers(rope, "mrope_section", usual);
  if (sections.reduce((sum, section) => sum + section, 0) === headDim / 2) return sections;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${file} as the text encoder: rope sections ${sections.join(" + ")} do not add up to half a head of ${headDim}`,
    {
      hint: "Put the model's config.json, with mrope_section, under the safetensors metadata key `config`",
    },
  );
}

/** Reads the configuration of the vision tower below `visual`; throws QEDIT_E_CHECKPOINT when the file has none. */
export function visionConfig(w: Weights, config: ConfigJson): VisionConfig {
  if (!w.has("visual")) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      "Cannot look at pictures: the text encoder file has no vision weights (visual.*)",
      {
        hint: `Give a text encoder file that contains them: ${param("text_encoder", "qwen_2.5_vl_7b_fp8_scaled.safetensors")}; beside a GGUF file, put its mmproj file`,
      },
    );
  }
  refuseOtherWidth(w);
  const vision = configObject(config, "vision_config");
  refuseOtherWays(w, vision, WAYS.vision);
  const [width] = w.shape("visual.patch_embed.proj.weight");
  const usual = width === EMBEDDED.vision.width ? EMBEDDED.vision : PUBLISHED.vision;
  const tower = towerNumbers(w, vision, { merger: "visual.merger.mlp.0.weight", headDim: usual.headDim });
  return {
    family: "Qwen2.5-VL",
    ...tower,
    // At least one token of the language model lies in a window.
    windowSize: configAtLeast(vision, "window_size", {
      least: tower.patchSize * tower.mergeSize,
      otherwise: PUBLISHED.vision.windowSize,
    }),
    fullAttentionBlocks: fullAttentionBlocks(w, vision, { blocks: tower.blocks, usual: usual.fullAttentionBlocks }),
    epsilon: PUBLISHED.vision.epsilon,
  };
}

function fullAttentionBlocks(
  w: Weights,
  vision: ConfigJson,
  { blocks, usual }: { readonly blocks: number; readonly usual: readonly number[] },
): readonly number[] {
  const indexes = configNumbers(vision, "fullatt_block_indexes", usual);
  // A file that says nothing, and has fewer blocks than the published ones, runs by its own count.
  if (indexes === usual || indexes.every((each) => Number.isInteger(each) && each >= 0 && each < blocks))
    return indexes;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the text encoder: blocks ${indexes.join(", ")} of its vision tower see the whole picture (fullatt_block_indexes), and it has ${blocks}`,
    { hint: OWN_CONFIG },
  );
}
