// Opens the vision tower by its memory plan: whole or in groups of blocks.
import { Weights } from "../../checkpoint/weights.js";
import { runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import type { VisionNumbers } from "../../models/text-encoder-family.js";
import { buildVisionTower, textEncoderNamed } from "../../models/text-encoders.js";
import type { StageContext } from "../stage.js";
import type { Chain } from "./block-groups.js";
import type { NetworkNeeds } from "./memory-plan.js";
import type { ModelHandle, SizedFile } from "./model-handle.js";
import { type LayerRange, withLayers } from "./open-layers.js";

/** A vision tower and its longest sequence. */
export interface VisionRun {
  readonly file: ModelHandle;
  readonly config: VisionNumbers;
  readonly compute: DType;
  /** Tokens of the largest picture, merge² patches each. */
  readonly tokens: number;
}

/** Opens a vision tower, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withVisionTower<T>(
  run: VisionRun,
  context: StageContext,
  use: (tower: Chain) => Promise<T>,
): Promise<T> {
  const { file, config, compute } = run;
  const needs = visionNeeds(run, context.engine.device);
  const build = (graph: Graph, weights: Weights, blocks: LayerRange) =>
    buildVisionTower(graph, weights, { config, compute, blocks });
  return withLayers({ network: "vision-tower", unit: "blocks", file, compute, needs, build }, context, use);
}

/** Sizes of a vision tower for its memory plan. Weights before the blocks count with the first block, weights after them with the block that they follow. */
export function visionNeeds(
  { file, config, compute, tokens }: Omit<VisionRun, "file"> & { readonly file: SizedFile },
  device: Device,
): NetworkNeeds {
  const layers = new Array<number>(config.blocks).fill(0);
  const { visionBlockOf } = textEncoderNamed(config.family);
  for (const [name, { length }] of file.checkpoint.tensors)
    if (name.startsWith("visual.")) layers[visionBlockOf(name, config)]! += length;
  const graph = new Graph("sizes", { widening: wideningOf("none", device) });
  buildVisionTower(graph, Weights.of(graph, file.checkpoint), { config, compute });
  return {
    network: "vision-tower",
    layers,
    activations: runBytes({ graph, optimization: "none", compute }, { tokens }, device),
  };
}
