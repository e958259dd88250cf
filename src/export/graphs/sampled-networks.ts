// The families of transformers that exported samplers evaluate, by what models/transformers.ts calls them.
import { QWEN_IMAGE } from "../../models/qwen-image/family.js";
import { transformerConfig } from "../../models/qwen-image/transformer-config.js";
import { transformerConfig as blockCausalConfig } from "../../models/qwen-image-2/block-causal-config.js";
import { QWEN_IMAGE_2 } from "../../models/qwen-image-2/qwen-image-2.js";
import { transformerOf } from "../../models/transformers.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import type { SampledNetwork } from "./sampled-network.js";
import { sampledQwenImage } from "./sampled-qwen-image.js";
import { sampledQwenImage2 } from "./sampled-qwen-image-2.js";

/** What a user may choose of a transformer; undefined: what it was made for. */
interface Choices {
  readonly referenceMethod?: string | undefined;
}

const FAMILIES: Readonly<Record<string, (file: ModelHandle, choices: Choices) => SampledNetwork>> = {
  [QWEN_IMAGE.name]: ({ checkpoint, config }, choices) =>
    sampledQwenImage(transformerConfig(numbersOf(checkpoint), config, choices)),
  [QWEN_IMAGE_2.name]: ({ checkpoint, config }) => sampledQwenImage2(blockCausalConfig(numbersOf(checkpoint), config)),
};

/** A transformer as exported samplers evaluate it. Throws QEDIT_E_CHECKPOINT for a file of no family, QEDIT_E_USAGE for a choice that it does not have. */
export function sampledNetwork(file: ModelHandle, choices: Choices = {}): SampledNetwork {
  const { family } = transformerOf(numbersOf(file.checkpoint), file.config, choices);
  return FAMILIES[family]!(file, choices);
}
