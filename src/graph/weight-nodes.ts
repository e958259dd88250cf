// The part of a graph that depends on weights alone, such as the casts that widen them.
import type { Graph } from "./graph.js";
import { bodiesOf, type Node } from "./node.js";

/** The nodes that read weights and constants alone, in the order they were added; not those inside bodies. */
export function nodesOfWeights(graph: Graph): ReadonlySet<Node> {
  return nodesOf(graph.nodes, fixedNames(graph));
}

/** Nodes in the order in which they are encoded: first those that read weights alone. `fixed` are the names of weights and constants, and of what is made of them around these nodes; it grows. */
export function weightsFirst(nodes: readonly Node[], fixed: Set<string>): Node[] {
  const ofWeights = nodesOf(nodes, fixed);
  return [...ofWeights, ...nodes.filter((node) => !ofWeights.has(node))];
}

/** Names of weights and constants. */
export function fixedNames({ externals, constants }: Graph): Set<string> {
  return new Set([...externals.keys(), ...constants.keys()]);
}

function nodesOf(nodes: readonly Node[], fixed: Set<string>): ReadonlySet<Node> {
  const isOfWeights = (node: Node): boolean => {
    // What a body reads is not among the inputs of its node.
    const isFixed = bodiesOf(node).length === 0 && node.inputs.every((name) => name === "" || fixed.has(name));
    if (isFixed) for (const name of node.outputs) fixed.add(name);
    return isFixed;
  };
  return new Set(nodes.filter(isOfWeights));
}
