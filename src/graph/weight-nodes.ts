// The part of a graph that depends on weights alone, such as the casts that widen them.
import type { Graph } from "./graph.js";
import { type Body, bodiesOf, type Node } from "./node.js";

/** The nodes that read weights and constants alone, in the order they were added; not those inside bodies. */
export function nodesOfWeights(graph: Graph): ReadonlySet<Node> {
  return nodesOf(graph.nodes, fixedNames(graph));
}

/** Names of weights and constants, and of what is made of them. */
export interface FixedNames {
  has(name: string): boolean;
  add(name: string): void;
}

/** Nodes in the order in which they are encoded: first those that read weights alone. `fixed` are those around these nodes; it grows. */
export function weightsFirst(nodes: readonly Node[], fixed: FixedNames): Node[] {
  const ofWeights = nodesOf(nodes, fixed);
  return [...ofWeights, ...nodes.filter((node) => !ofWeights.has(node))];
}

/** The names of weights and constants of a graph. */
export function fixedNames({ externals, constants }: Graph): FixedNames {
  return new Set([...externals.keys(), ...constants.keys()]);
}

/** Those of a body, which grow by themselves. */
export function fixedInside(outer: FixedNames): FixedNames {
  const own = new Set<string>();
  return { has: (name) => own.has(name) || outer.has(name), add: (name) => own.add(name) };
}

function nodesOf(nodes: readonly Node[], fixed: FixedNames): ReadonlySet<Node> {
  const isOfWeights = (node: Node): boolean => {
    const isFixed = namesRead(node).every((name) => name === "" || fixed.has(name));
    if (isFixed) for (const name of node.outputs) fixed.add(name);
    return isFixed;
  };
  return new Set(nodes.filter(isOfWeights));
}

/** What a node reads of the graph around it: its inputs, and what its bodies read that is not their own. */
export function namesRead(node: Node): readonly string[] {
  return [...node.inputs, ...bodiesOf(node).flatMap(outerNames)];
}

function outerNames({ inputs, nodes, outputs }: Body): readonly string[] {
  const own = new Set([...inputs.map(({ name }) => name), ...nodes.flatMap((node) => node.outputs)]);
  return [...nodes.flatMap(namesRead), ...outputs.map(({ name }) => name)].filter((name) => !own.has(name));
}
