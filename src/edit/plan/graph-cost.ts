// The cost of a graph at concrete sizes: floating-point operations, and bytes of weights.
import type { Graph } from "../../graph/graph.js";
import { concrete, count, type Lengths, shapesOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";

/** Lengths of the named dimensions, from the shapes of a graph's feeds. */
export function lengthsOf(graph: Graph, shapes: Readonly<Record<string, readonly number[]>>): Lengths {
  const lengths: Record<string, number> = {};
  for (const [name, { shape }] of graph.inputs) {
    shape.forEach((dim, axis) => {
      const found = shapes[name]?.[axis];
      const [, factor, symbol] = /^(?:(\d+)\*)?([a-z]+)$/i.exec(String(dim)) ?? [];
      if (symbol !== undefined && found !== undefined) lengths[symbol] = found / Number(factor ?? 1);
    });
  }
  return lengths;
}

/**
 * Floating-point operations of one run, two for each multiply-and-add: matrix products 2·m·n·k, convolutions
 * 2·outputs·channels·kernel, attention 4·queries·keys·width (scores and their products with the values; masked
 * and causal ones are computed whole). Elementwise work, some 1 % of a network here, is not counted.
 */
export function graphFlops(graph: Graph, lengths: Lengths): number {
  const shapes = shapesOf(graph);
  return graph.nodes.reduce((sum, node) => sum + nodeFlops(node, (name) => concrete(shapes, name, lengths)), 0);
}

const PRODUCTS = new Set(["Gemm", "MatMul", "MatMulBlockQuantizedFp8Weight", "MatMulNBits"]);

function nodeFlops({ operator, inputs, outputs }: Node, shape: (name: string) => readonly number[]): number {
  if (PRODUCTS.has(operator)) return 2 * count(shape(outputs[0]!)) * shape(inputs[0]!).at(-1)!;
  if (operator === "Conv") return 2 * count(shape(outputs[0]!)) * count(shape(inputs[1]!).slice(1));
  if (operator === "MultiHeadAttention" || operator === "Attention") {
    const [, queries, width] = shape(inputs[0]!) as [number, number, number];
    return 4 * queries * shape(inputs[1]!)[1]! * width;
  }
  return 0;
}

/** Bytes of the weights of graphs as stored, each tensor once. */
export function weightBytes(...graphs: readonly Graph[]): number {
  const stored = graphs.flatMap(({ externals }) => [...externals.values()]);
  const lengths = new Map(stored.map(({ file, offset, length }) => [`${offset} ${length} ${file}`, length]));
  return [...lengths.values()].reduce((sum, length) => sum + length, 0);
}

/** Elements of a graph's weights. */
export function weightElements(graph: Graph): number {
  return [...graph.externals.values()].reduce((sum, { shape }) => sum + count(shape), 0);
}
