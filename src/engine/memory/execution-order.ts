// The order in which ONNX Runtime runs the nodes of a graph: depth first from the results, the input made last first.
// onnxruntime/core/graph/graph.cc, Graph::ReverseDFSFrom with NodeCompare (1.29).
import type { Graph } from "../../graph/graph.js";
import type { Node } from "../../graph/node.js";
import { encodedNodes } from "../../graph/onnx.js";

/** The nodes in the order of execution. */
export function executionOrder(graph: Graph): Node[] {
  const nodes = encodedNodes(graph);
  const named = (names: readonly string[]) => names.filter((name) => name !== ""); // "" is one that is left out
  const makers = new Map(nodes.flatMap(({ outputs }, index) => named(outputs).map((name) => [name, index] as const)));
  const makersOf = ({ inputs }: Node) =>
    [...new Set(inputs.flatMap((name) => makers.get(name) ?? []))].sort((a, b) => a - b);
  const read = new Set(nodes.flatMap(({ inputs }) => named(inputs)));
  const ends = nodes.flatMap(({ outputs }, index) => (outputs.some((name) => read.has(name)) ? [] : [index]));
  const order: Node[] = [];
  const seen = new Set<number>();
  const stack = ends.map((index) => ({ index, isDone: false }));
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const node = nodes[top.index]!;
    if (top.isDone) order.push(node);
    else if (!seen.has(top.index)) {
      seen.add(top.index);
      stack.push({ index: top.index, isDone: true });
      for (const index of makersOf(node)) if (!seen.has(index)) stack.push({ index, isDone: false });
    }
  }
  return order;
}
