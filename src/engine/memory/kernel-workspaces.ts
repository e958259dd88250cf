// Memory that kernels of the CPU provider take from the arena while they run: onnxruntime/contrib_ops/cpu/bert and core/providers/cpu/llm (1.29).
import { count } from "../../graph/lengths.js";
import { bodiesOf, type NamedTensor, type Node } from "../../graph/node.js";
import { ELEMENT } from "../../graph/types.js";

/** Shape of a value by its name. */
export type ShapeOf = (name: string) => readonly number[];

/** Bytes of a processor core's second cache, which attention divides its work by: typical, and of little weight. */
const SECOND_CACHE = 1024 ** 2;

const FLOAT = 4;

/** Bytes of each workspace of a node, in the order in which they are allocated; they are freed in the opposite order. */
export function kernelWorkspaces(node: Node, shape: ShapeOf, threads: number): number[] {
  const { operator, inputs, attributes } = node;
  if (operator === "Attention") {
    // The scores of all heads, and the causal mask.
    const [, queries] = shape(inputs[0]!) as [number, number, number];
    const [, keys] = shape(inputs[1]!) as [number, number, number];
    return [FLOAT * numberOf(attributes["q_num_heads"]) * queries * keys, FLOAT * queries * keys];
  }
  // What a body computes of one part; what it gives goes to its place in the whole.
  if (operator === "Scan") return bodiesOf(node).flatMap(({ values, outputs }) => bodyBytes(values, outputs));
  if (operator !== "MultiHeadAttention") return [];
  // Copies of q, k and v with heads before tokens.
  const copies = inputs.slice(0, 3).map((name) => FLOAT * count(shape(name)));
  const [, queries, width] = shape(inputs[0]!) as [number, number, number];
  const [, keys] = shape(inputs[1]!) as [number, number, number];
  const heads = numberOf(attributes["num_heads"]);
  // Scores that a bias is added to are stored whole, others block by block.
  return [
    ...copies,
    inputs.length > 3 ? FLOAT * heads * queries * keys : blockBytes({ queries, keys, size: width / heads }) * threads,
  ];
}

function bodyBytes(values: readonly NamedTensor[], outputs: readonly NamedTensor[]): number[] {
  const given = new Set(outputs.map(({ name }) => name));
  return values.flatMap(({ name, shape, dtype }) =>
    given.has(name) ? [] : [shape.reduce<number>((bytes, dim) => bytes * Number(dim), ELEMENT[dtype].bytes)],
  );
}

// Of one thread: scores of some queries over some keys, the sums beside them, and the result. By the cache, as FlashAttention does.
function blockBytes({ queries, keys, size }: { queries: number; keys: number; size: number }): number {
  const most = Math.max(Math.floor(SECOND_CACHE / (FLOAT * 4 * 2 * size)), 1);
  const rows = Math.min(most, 2 * size, queries);
  return FLOAT * rows * (2 + Math.min(most, keys) + size);
}

function numberOf(attribute: Node["attributes"][string] | undefined): number {
  return attribute && "int" in attribute ? attribute.int : 1;
}
