// What one run of an open graph takes of its device beside weights: the arena of ONNX Runtime, and what kernels take for themselves.
import type { Graph } from "../../graph/graph.js";
import { count, type Lengths, lengthOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";
import { type DType, ELEMENT } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { Device } from "../providers.js";
import type { Optimization } from "../sessions/engine.js";
import { type RunMemory, runMemory, type ShapeOf } from "./run-memory.js";

/** A graph as it is opened. */
export interface OpenedGraph {
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
}

/** Memory of one run on a device beside weights and what it is fed. On the CPU it is ONNX Runtime's to the byte (test/engine/arena.test.ts). */
export function sessionRunMemory(
  { graph, optimization, compute }: OpenedGraph,
  lengths: Lengths,
  { provider }: Device,
): RunMemory {
  const isFolded = optimization === "full";
  const scratch = (node: Node, shape: ShapeOf) =>
    provider === "cpu" ? cpuScratch(node, shape, { isFolded, compute }) : 0;
  return runMemory(graph, lengths, { isFolded, scratch });
}

/** Bytes of what a run is fed. */
export function fedBytes({ inputs }: Graph, lengths: Lengths): number {
  return bytesOf([...inputs.values()], lengths);
}

/** Bytes of what a run gives. */
export function givenBytes({ outputs }: Graph, lengths: Lengths): number {
  return bytesOf([...outputs.values()], lengths);
}

function bytesOf(values: readonly Pick<Value, "shape" | "dtype">[], lengths: Lengths): number {
  return values.reduce(
    (sum, { shape, dtype }) =>
      sum + shape.reduce<number>((elements, dim) => elements * lengthOf(dim, lengths), ELEMENT[dtype].bytes),
    0,
  );
}

// What kernels of the CPU provider take while they run, see onnxruntime/core/providers/cpu and contrib_ops/cpu/bert (1.29).
function cpuScratch(node: Node, shape: ShapeOf, { isFolded, compute }: { isFolded: boolean; compute: DType }): number {
  const { operator, inputs, outputs } = node;
  const bytes = (elements: number) => elements * ELEMENT[compute].bytes;
  // Channels are put in blocks before, and back after.
  if (operator === "Conv" && isFolded) return bytes(count(shape(inputs[0]!)) + count(shape(outputs[0]!)));
  if (operator !== "MultiHeadAttention" && operator !== "Attention") return 0;
  // Heads are put before tokens. Scores stand in memory whole where something is added to them, twice in ai.onnx's Attention, else block by block.
  const moved = inputs.slice(0, 3).reduce((sum, name) => sum + count(shape(name)), 0);
  const copies = operator === "Attention" ? 2 : inputs.length > 3 ? 1 : 0;
  const scores = headsOf(node) * shape(inputs[0]!)[1]! * shape(inputs[1]!)[1]!;
  return bytes(moved + copies * scores);
}

function headsOf({ attributes }: Node): number {
  const heads = attributes["num_heads"] ?? attributes["q_num_heads"];
  return heads && "int" in heads ? heads.int : 1;
}
