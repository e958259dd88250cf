// Memory of one run of an opened graph beside its weights: ONNX Runtime's arena, with the scratch buffers of kernels.
import type { Graph } from "../../graph/graph.js";
import { count, type Lengths, lengthOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";
import { type DType, ELEMENT } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { Device } from "../providers.js";
import type { Optimization } from "../sessions/engine.js";
import { type RunMemory, runMemory, type ShapeOf } from "./run-memory.js";

/** A graph, and how it is opened. */
export interface OpenedGraph {
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
}

/** Memory of one run on a device beside weights and inputs. On the CPU it equals ONNX Runtime's to the byte (test/engine/arena.test.ts). */
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

/** Bytes of a run's inputs. */
export function inputBytes({ inputs }: Graph, lengths: Lengths): number {
  return bytesOf([...inputs.values()], lengths);
}

/** Bytes of a run's outputs. */
export function outputBytes({ outputs }: Graph, lengths: Lengths): number {
  return bytesOf([...outputs.values()], lengths);
}

function bytesOf(values: readonly Pick<Value, "shape" | "dtype">[], lengths: Lengths): number {
  return values.reduce(
    (sum, { shape, dtype }) =>
      sum + shape.reduce<number>((elements, dim) => elements * lengthOf(dim, lengths), ELEMENT[dtype].bytes),
    0,
  );
}

// Scratch buffers of the CPU provider's kernels, see onnxruntime/core/providers/cpu and contrib_ops/cpu/bert (1.29).
function cpuScratch(node: Node, shape: ShapeOf, { isFolded, compute }: { isFolded: boolean; compute: DType }): number {
  const { operator, inputs, outputs } = node;
  const bytes = (elements: number) => elements * ELEMENT[compute].bytes;
  // Input and output are copied to and from a layout with channels in blocks.
  if (operator === "Conv" && isFolded) return bytes(count(shape(inputs[0]!)) + count(shape(outputs[0]!)));
  if (operator !== "MultiHeadAttention" && operator !== "Attention") return 0;
  // Inputs are transposed to heads before tokens. Scores are in memory as a whole when a bias is added, twice in ai.onnx's Attention, else block by block.
  const moved = inputs.slice(0, 3).reduce((sum, name) => sum + count(shape(name)), 0);
  const copies = operator === "Attention" ? 2 : inputs.length > 3 ? 1 : 0;
  const scores = headsOf(node) * shape(inputs[0]!)[1]! * shape(inputs[1]!)[1]!;
  return bytes(moved + copies * scores);
}

function headsOf({ attributes }: Node): number {
  const heads = attributes["num_heads"] ?? attributes["q_num_heads"];
  return heads && "int" in heads ? heads.int : 1;
}
