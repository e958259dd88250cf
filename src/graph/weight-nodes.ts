// The part of a graph that depends on weights alone, such as the casts that widen them.
import type { Graph } from "./graph.js";
import type { Node } from "./node.js";

/** The nodes that read weights and constants alone, in the order they were added. */
export function nodesOfWeights(graph: Graph): ReadonlySet<Node> {
  const fixed = new Set([...graph.externals.keys(), ...graph.constants.keys()]);
  const isOfWeights = ({ inputs, outputs }: Node): boolean => {
    const isFixed = inputs.every((name) => name === "" || fixed.has(name));
    if (isFixed) for (const name of outputs) fixed.add(name);
    return isFixed;
  };
  return new Set(graph.nodes.filter(isOfWeights));
}
