// Opens the language model by its memory plan: whole or in groups of layers.
import { Weights } from "../../checkpoint/weights.js";
import { runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import { type LanguageNumbers, languageLengths } from "../../models/text-encoder-family.js";
import { buildLanguageModel, textEncoderNamed } from "../../models/text-encoders.js";
import type { StageContext } from "../stage.js";
import type { Chain } from "./block-groups.js";
import type { NetworkNeeds } from "./memory-plan.js";
import type { ModelHandle, SizedFile } from "./model-handle.js";
import { type LayerRange, withLayers } from "./open-layers.js";

/** A language model and its longest sequence. */
export interface LanguageRun {
  readonly file: ModelHandle;
  readonly config: LanguageNumbers;
  readonly compute: DType;
  /** Tokens of the longest prompt. */
  readonly tokens: number;
}

/** Opens a language model, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withLanguageModel<T>(
  run: LanguageRun,
  context: StageContext,
  use: (model: Chain) => Promise<T>,
): Promise<T> {
  const { file, config, compute } = run;
  const needs = languageNeeds(run, context.engine.device);
  const build = (graph: Graph, weights: Weights, layers: LayerRange) =>
    buildLanguageModel(graph, weights, { config, compute, layers });
  return withLayers({ network: "language-model", unit: "layers", file, compute, needs, build }, context, use);
}

/** Sizes of a language model for its memory plan, without model.embed_tokens and lm_head. */
export function languageNeeds(
  { file, config, compute, tokens }: Omit<LanguageRun, "file"> & { readonly file: SizedFile },
  device: Device,
): NetworkNeeds {
  const layers = new Array<number>(config.layers).fill(0);
  const { isIdle } = textEncoderNamed(config.family);
  for (const [name, { length }] of file.checkpoint.tensors) {
    // model.norm.weight
    const end = config.layers - 1;
    if (name.startsWith("model.") && !isIdle(name))
      layers[Number(/^model\.layers\.(\d+)\./.exec(name)?.[1] ?? end)]! += length;
  }
  const graph = new Graph("sizes", { widening: wideningOf("none", device) });
  buildLanguageModel(graph, Weights.of(graph, file.checkpoint), {
    config,
    compute,
    layers: { from: 0, to: Math.min(2, config.layers) },
  });
  return {
    network: "language-model",
    layers,
    activations: runBytes({ graph, optimization: "none", compute }, languageLengths(tokens), device),
  };
}
