// The families of diffusion transformers, and which of them a file is of.
import type { Weights } from "../checkpoint/weights.js";
import type { ConfigJson } from "./config-json.js";
import { QWEN_IMAGE } from "./qwen-image/family.js";
import { QWEN_IMAGE_2 } from "./qwen-image-2/qwen-image-2.js";
import type { Transformer, TransformerChoices, TransformerFamily } from "./transformer-family.js";

/** Asked in this order; the last one refuses files of none. */
const FAMILIES: readonly [TransformerFamily, ...TransformerFamily[]] = [QWEN_IMAGE_2, QWEN_IMAGE];

/** Name of the family of a file; undefined where the names of its tensors say none. */
export function transformerFamily(w: Weights): string | undefined {
  return FAMILIES.find(({ matches }) => matches(w))?.name;
}

/** The transformer of a file, of the family that the names of its tensors say; throws QEDIT_E_CHECKPOINT where they say none, or one that is not understood. */
export function transformerOf(w: Weights, config: ConfigJson, choices: TransformerChoices = {}): Transformer {
  const family = FAMILIES.find(({ matches }) => matches(w)) ?? FAMILIES.at(-1)!;
  return family.open(w, config, choices);
}
