// The graph that a session runs, of the graph that was written: what is computed when the session opens is left out.
import type { Graph } from "../../graph/graph.js";
import { shapesOf } from "../../graph/lengths.js";
import { nodesOfWeights } from "../../graph/weight-nodes.js";
import { inBlocks } from "./blocked-convolutions.js";
import type { RunGraph } from "./run-graph.js";

/**
 * The graph that a session runs. A folded one has no nodes that depend on weights alone, and its convolutions read and write channels in blocks
 * (src/engine/memory/blocked-convolutions.ts).
 */
export function runGraph(graph: Graph, { isFolded }: { isFolded: boolean }): RunGraph {
  const ofWeights = nodesOfWeights(graph);
  const others = graph.nodes.filter((node) => !ofWeights.has(node));
  const outputs = new Set([...graph.outputs.values()].map(({ name }) => name));
  const values = shapesOf(graph);
  return isFolded
    ? inBlocks({ nodes: others, values, outputs })
    : { nodes: [...ofWeights, ...others], values, outputs };
}
