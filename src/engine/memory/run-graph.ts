// What a session runs: nodes by their numbers, and the order in which they are computed.
import type { Node } from "../../graph/node.js";
import { type DType, ELEMENT, type Shape } from "../../graph/types.js";
import { namesRead } from "../../graph/weight-nodes.js";

/** A value of a run. */
export interface RunValue {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Whether ONNX Runtime does not know its shape before it runs, so that no other value takes its buffer. */
  readonly isUnshaped?: boolean;
}

/** The nodes of a run by their numbers, and the values that they read and write. */
export interface RunGraph {
  readonly nodes: readonly Node[];
  readonly values: ReadonlyMap<string, RunValue>;
  /** Names of what the graph gives. */
  readonly outputs: ReadonlySet<string>;
}

/** Operators that write over their first input where nobody else reads it, and the size is the same. */
export const WRITES_OVER_INPUT: ReadonlySet<string> = new Set(["Cast", "Clip", "Softmax", "Tanh", "Sigmoid"]);

/** Bytes of an element of a value. */
export function elementBytes({ dtype }: RunValue): number {
  return ELEMENT[dtype].bytes;
}

/**
 * Nodes in the order in which they are computed: onnxruntime/core/graph/graph_viewer.cc and Graph::ReverseDFSFrom of graph.cc (1.29). From what nobody
 * reads backwards: of the makers of what a node reads the one with the largest number comes first.
 */
export function runOrder(nodes: readonly Node[]): Node[] {
  const numbers = new Map(nodes.map((node, number) => [node, number]));
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const read = new Set(nodes.flatMap(namesRead));
  const before = (node: Node) =>
    [...new Set(namesRead(node).flatMap((name) => makers.get(name) ?? []))].sort(
      (a, b) => numbers.get(a)! - numbers.get(b)!,
    );
  const stack = nodes
    .filter(({ outputs }) => !outputs.some((name) => read.has(name)))
    .map((node) => ({ node, isLeft: false }));
  const entered = new Set<Node>();
  const order: Node[] = [];
  for (let last = stack.pop(); last !== undefined; last = stack.pop()) {
    const { node, isLeft } = last;
    if (isLeft) order.push(node);
    if (isLeft || entered.has(node)) continue;
    entered.add(node);
    stack.push({ node, isLeft: true });
    for (const each of before(node)) if (!entered.has(each)) stack.push({ node: each, isLeft: false });
  }
  return order;
}
