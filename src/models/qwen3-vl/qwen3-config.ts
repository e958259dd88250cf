// Configuration of the Qwen3-VL text encoder: what was published (Qwen/Qwen3-VL-8B-Instruct config.json), overridden by what tensor shapes say,
// overridden by the checkpoint's own `config` (Qwen3VLConfig).
import type { Weights } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import {
  blockCount,
  type ConfigJson,
  configNumbers,
  configObject,
  configPositive,
  headCount,
  refuseOtherSizes,
  refuseOtherWays,
} from "../config-json.js";
import type { LanguageNumbers, VisionNumbers } from "../text-encoder-family.js";
import { towerNumbers } from "../vision-numbers.js";

/** Configuration of the language model. */
export interface Qwen3Language extends LanguageNumbers {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly epsilon: number;
  readonly ropeTheta: number;
  /** Rotary pairs rotated by the time, row and column of a token (mrope_section), which take turns. */
  readonly ropeSections: readonly number[];
}

/** Configuration of the vision tower. */
export interface Qwen3Vision extends VisionNumbers {
  /** Rows and columns of the square of learned position embeddings. */
  readonly positionSide: number;
  /** Blocks behind which features are taken for the language model (deepstack_visual_indexes), one for each of its first layers. */
  readonly featureBlocks: readonly number[];
  readonly epsilon: number;
}

const PUBLISHED = { epsilon: 1e-6, ropeTheta: 5e6, ropeSections: [24, 20, 20], visionHeadDim: 72 };

/** What is computed in one way alone, as the published models are. */
const WAYS = {
  language: {
    hidden_act: ["silu"],
    rope_type: ["default", "mrope"],
    type: ["default", "mrope"],
    mrope_interleaved: [true],
  },
  vision: { hidden_act: ["gelu_pytorch_tanh"] },
};

/** deepstack_visual_indexes of the published towers, by their number of blocks: of 8B and 32B, and of 2B and 4B. */
const FEATURE_BLOCKS: Readonly<Record<number, readonly number[]>> = { 27: [8, 16, 24], 24: [5, 11, 17] };

/** The file of the published model that serves, for hints. */
const INSTEAD = param("text_encoder", "qwen3vl_8b_int8_convrot.safetensors");

/** Whether a language model has what Qwen3's have, and Qwen2.5's have not: norms of queries and keys, and no biases. */
export function isQwen3(w: Weights): boolean {
  const attention = w.at("model.layers.0.self_attn");
  return attention.has("q_norm.weight") && attention.has("q_proj.weight") && !attention.has("q_proj.bias");
}

/** Reads the configuration of the language model below `model`; throws QEDIT_E_CHECKPOINT when it is of another model. */
export function qwen3LanguageConfig(w: Weights, config: ConfigJson): Qwen3Language {
  refuseOtherModels(w, config);
  const text = { ...config, ...configObject(config, "text_config") };
  const rope = { ...text, ...configObject(text, "rope_scaling"), ...configObject(text, "rope_parameters") };
  const attention = w.at("model.layers.0.self_attn");
  const [queryWidth, width] = attention.shape("q_proj.weight") as [number, number];
  const [headDim] = attention.shape("q_norm.weight") as [number];
  const heads = headCount("q_proj", queryWidth, headDim);
  const keyValueHeads = headCount("k_proj", attention.shape("k_proj.weight")[0]!, headDim);
  refuseOtherSizes(w, text, {
    hidden_size: width,
    head_dim: headDim,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
  });
  refuseOtherWays(w, rope, WAYS.language);
  return {
    family: "Qwen3-VL",
    layers: blockCount(w, text, { list: "model.layers", key: "num_hidden_layers" }),
    width,
    heads,
    keyValueHeads,
    headDim,
    pictureFeatures: w.count("visual.deepstack_merger_list"),
    epsilon: configPositive(text, "rms_norm_eps", PUBLISHED.epsilon),
    ropeTheta: configPositive(rope, "rope_theta", PUBLISHED.ropeTheta),
    ropeSections: ropeSections(rope, headDim, w.file),
  };
}

// Their keys and shapes may be the same; what their own configuration says is not.
function refuseOtherModels(w: Weights, config: ConfigJson): void {
  const type = config["model_type"] ?? configObject(config, "text_config")["model_type"];
  if (type === undefined || (typeof type === "string" && /^qwen3_?vl(_text)?$/.test(type))) return;
  throw refusal(w, `its config says that it is "${String(type).slice(0, 40)}", "qwen3_vl" is wanted`);
}

function ropeSections(rope: ConfigJson, headDim: number, file: string): readonly number[] {
  const sections = configNumbers(rope, "mrope_section", PUBLISHED.ropeSections);
  const isWhole = sections.length === 3 && sections.every((each) => Number.isInteger(each) && each >= 0);
  if (isWhole && sections.reduce((sum, section) => sum + section, 0) === headDim / 2) return sections;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${file} as the text encoder: rope sections ${sections.join(" + ")} do not add up to half a head of ${headDim}`,
    { hint: "Put the model's config.json, with mrope_section, under the safetensors metadata key `config`" },
  );
}

/** Reads the configuration of the vision tower below `visual`; throws QEDIT_E_CHECKPOINT when the file has none, or one of another model. */
export function qwen3VisionConfig(w: Weights, config: ConfigJson): Qwen3Vision {
  if (!w.has("visual")) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot look at pictures: the text encoder ${w.file} has no vision weights (visual.*)`,
      { hint: `Give a text encoder file that contains them: ${INSTEAD}; beside a GGUF file, put its mmproj file` },
    );
  }
  if (!w.has("visual.merger.linear_fc2.weight") || !w.has("visual.pos_embed.weight"))
    throw refusal(w, "its vision tower is not one of Qwen3-VL (merger.linear_fc2, pos_embed)");
  const vision = configObject(config, "vision_config");
  refuseOtherWidths(w);
  refuseOtherWays(w, vision, WAYS.vision);
  const tower = towerNumbers(w, vision, {
    merger: "visual.merger.linear_fc1.weight",
    headDim: PUBLISHED.visionHeadDim,
  });
  return {
    family: "Qwen3-VL",
    ...tower,
    positionSide: positionSide(w),
    featureBlocks: featureBlocks(w, vision, tower.blocks),
    epsilon: PUBLISHED.epsilon,
  };
}

// A tower of another size, as of an mmproj file of another release, would put its numbers where others belong.
function refuseOtherWidths(w: Weights): void {
  const mergers = [
    "merger",
    ...Array.from({ length: w.count("visual.deepstack_merger_list") }, (_, k) => `deepstack_merger_list.${k}`),
  ];
  const [taken] = w.has("model.norm") ? w.shape("model.norm.weight") : [undefined];
  for (const merger of mergers) {
    const [given] = w.shape(`visual.${merger}.linear_fc2.weight`);
    if (taken === undefined || given === taken) continue;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${w.file} as the text encoder: its vision tower gives ${given} numbers a token, its language model takes ${taken}`,
      { hint: "Put the mmproj file of the same model beside a GGUF file, and no other" },
    );
  }
}

function positionSide(w: Weights): number {
  const [rows] = w.shape("visual.pos_embed.weight") as [number];
  const side = Math.sqrt(rows);
  if (Number.isInteger(side)) return side;
  throw refusal(w, `its vision tower has ${rows} position embeddings, which make no square`);
}

function featureBlocks(w: Weights, vision: ConfigJson, blocks: number): readonly number[] {
  const count = w.count("visual.deepstack_merger_list");
  const indexes = configNumbers(vision, "deepstack_visual_indexes", FEATURE_BLOCKS[blocks] ?? []);
  const isWhole = indexes.every(
    (each, at) => Number.isInteger(each) && each > (indexes[at - 1] ?? -1) && each < blocks,
  );
  if (indexes.length === count && isWhole) return indexes;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the text encoder: it has ${count} mergers of features (deepstack_merger_list) for blocks ${indexes.join(", ") || "that are not known"} of ${blocks}`,
    { hint: "Put the model's config.json, with deepstack_visual_indexes, under the safetensors metadata key `config`" },
  );
}

function refusal({ file }: Weights, reason: string): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${file} as the text encoder: ${reason}`, {
    hint: `Give a Qwen3-VL text encoder: ${INSTEAD}`,
  });
}
