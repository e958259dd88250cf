// The families of text encoders that exported prompts are read by, by what models/text-encoders.ts calls them.
import type { Weights } from "../../checkpoint/weights.js";
import type { ConfigJson } from "../../models/config-json.js";
import type { PromptConventions, TextEncoderName } from "../../models/text-encoder-family.js";
import { textEncoderOf } from "../../models/text-encoders.js";
import type { ExportedNetworks } from "./prompt-encoder.js";
import { qwen25Networks } from "./prompt-qwen2.5-vl.js";
import { qwen3Networks } from "./prompt-qwen3-vl.js";

/** The networks, and what the transformer wants of prompts. */
export interface PromptNetworks extends ExportedNetworks {
  readonly conventions: PromptConventions;
}

const FAMILIES: Readonly<Record<TextEncoderName, (w: Weights, config: ConfigJson) => ExportedNetworks>> = {
  "Qwen2.5-VL": qwen25Networks,
  "Qwen3-VL": qwen3Networks,
};

/** The networks of a text encoder. Throws QEDIT_E_CHECKPOINT for a file without a language model or a vision tower that qedit runs. */
export function promptNetworks(w: Weights, config: ConfigJson): PromptNetworks {
  const { name, conventions } = textEncoderOf(w);
  return { ...FAMILIES[name](w, config), conventions };
}
