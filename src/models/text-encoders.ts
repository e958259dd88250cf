// The families of text encoders that qedit runs. What family a file is of is read from its keys and shapes.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import type { ConfigJson } from "./config-json.js";
import { QWEN_2_5_VL } from "./qwen2.5-vl/qwen2.5-vl.js";
import { QWEN_3_VL } from "./qwen3-vl/qwen3-vl.js";
import type {
  LanguageBuild,
  LanguageNumbers,
  TextEncoderFamily,
  TextEncoderName,
  VisionBuild,
  VisionNumbers,
} from "./text-encoder-family.js";

// The last one takes what is of no other, and says what is wrong with it.
const FAMILIES: readonly TextEncoderFamily[] = [QWEN_3_VL, QWEN_2_5_VL];

/** The family of a text encoder, under the published keys. */
export function textEncoderOf(w: Weights): TextEncoderFamily {
  return FAMILIES.find((family) => family.isOf(w))!;
}

/** The family of this name. */
export function textEncoderNamed(name: TextEncoderName): TextEncoderFamily {
  return FAMILIES.find((family) => family.name === name)!;
}

/** The configuration of the language model of a file; throws QEDIT_E_CHECKPOINT when it has none that qedit runs. */
export function languageConfig(w: Weights, config: ConfigJson): LanguageNumbers {
  return textEncoderOf(w).languageConfig(w, config);
}

/** The configuration of the vision tower of a file; throws QEDIT_E_CHECKPOINT when it has none that qedit runs. */
export function visionConfig(w: Weights, config: ConfigJson): VisionNumbers {
  return textEncoderOf(w).visionConfig(w, config);
}

/** Adds layers of a language model to a graph (see TextEncoderFamily). */
export function buildLanguageModel(graph: Graph, w: Weights, options: LanguageBuild): void {
  textEncoderNamed(options.config.family).buildLanguageModel(graph, w, options);
}

/** Adds blocks of a vision tower to a graph (see TextEncoderFamily). */
export function buildVisionTower(graph: Graph, w: Weights, options: VisionBuild): void {
  textEncoderNamed(options.config.family).buildVisionTower(graph, w, options);
}

/** How pictures are cut and normalised for a vision tower, as src/image/patches.ts takes it. */
export function patchesOf({ family, patchSize: patch, temporalPatchSize: temporal, mergeSize: merge }: VisionNumbers) {
  return { patch, temporal, merge, pixels: textEncoderNamed(family).conventions.pixels };
}
