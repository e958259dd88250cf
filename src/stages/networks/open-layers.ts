// Opens a network of the text encoder by its memory plan: whole or in groups of layers.
import { Weights } from "../../checkpoint/weights.js";
import { modelOf } from "../../engine/sessions/engine.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import { type NetworkId, networkName } from "../../models/network-id.js";
import type { StageContext } from "../stage.js";
import { type Chain, groupModels, withChain } from "./block-groups.js";
import type { NetworkNeeds } from "./memory-plan.js";
import { type ModelHandle, networkModel } from "./model-handle.js";
import { groupPlanning, withinMemory } from "./within-memory.js";

/** Layers [from, to). */
export interface LayerRange {
  readonly from: number;
  readonly to: number;
}

/** A network that can be opened in groups of layers; `unit` is the word for a layer in messages. */
export interface LayeredNetwork {
  readonly network: NetworkId;
  readonly unit: "blocks" | "layers";
  readonly file: ModelHandle;
  readonly compute: DType;
  readonly needs: NetworkNeeds;
  /** Writes some of the layers into a graph. */
  readonly build: (graph: Graph, weights: Weights, layers: LayerRange) => void;
}

/** Opens a network, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withLayers<T>(
  { network, unit, file, compute, needs, build }: LayeredNetwork,
  context: StageContext,
  use: (chain: Chain) => Promise<T>,
): Promise<T> {
  const name = networkName(network);
  const widening = wideningOf("none", context.engine.device);
  return withinMemory(context, groupPlanning(needs), async (plan) => {
    const models = await Promise.all(
      plan.groups.map(({ from, to }) =>
        networkModel(context, { network, file, others: { compute, widening, from, to } }, () => {
          const graph = new Graph(
            plan.groups.length === 1 ? `the ${name}` : `the ${name}, ${unit} ${from} to ${to - 1}`,
            { widening },
          );
          build(graph, Weights.of(graph, file.checkpoint), { from, to });
          return modelOf(graph, "none", network);
        }),
      ),
    );
    context.emit({ kind: "activity", text: `opening the ${name}` });
    return withChain(context, groupModels(plan, models), use);
  });
}
