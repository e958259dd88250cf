// What one run of an open graph takes of its device beside weights: its live bytes, times a measured margin.
import type { Graph } from "../../graph/graph.js";
import { count, type Lengths, lengthOf } from "../../graph/lengths.js";
import type { Node } from "../../graph/node.js";
import { type DType, ELEMENT } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { Device } from "../providers.js";
import type { Optimization } from "../sessions/engine.js";
import { liveBytes, type ShapeOf } from "./run-memory.js";

/** A graph as it is opened. */
export interface OpenedGraph {
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
}

/** What a run takes for its live bytes: so many times as much in a small run; in a large one fewer times as much and a constant. */
interface Margin {
  readonly small: number;
  readonly large: number;
  readonly constant: number;
}

/**
 * Resident host memory: a freed chunk of the arena is too small for a larger tensor, and kernels pack and copy. Measured on the CPU by
 * test/engine/arena.test.ts: 0.7 (a tiny VAE decoder) to 1.7 times (two blocks of the vision tower, 0.24 GB); a run with 1.3 GB live takes 1.1 times.
 */
const HOST_MARGIN: Margin = { small: 1.8, large: 1.3, constant: 256 * 1024 ** 2 };

/**
 * What an arena reserves: each region is twice the last one, up to 1 GiB, and what is left of the last one is not used. Measured on the CPU, by
 * the same test: 0.8 (a tiny VAE decoder) to 3.0 times (a block of the transformer, 0.5 GB); 1.7 times with 1.3 GB live. Not measured on a
 * GPU, whose arena is the same code.
 */
const ARENA_MARGIN: Margin = { small: 3.2, large: 1.3, constant: 1024 ** 3 };

/** Bytes that a run takes beside weights: on the CPU of host memory, on a GPU what the arena reserves and what is fed. */
export function runBytes(opened: OpenedGraph, lengths: Lengths, device: Device): number {
  const live = sessionLiveBytes(opened, lengths, device);
  return device.provider === "cpu"
    ? withMargin(live, HOST_MARGIN)
    : reservedBytes(live) + inputBytes(opened.graph, lengths);
}

/** Bytes that an arena reserves for a run with so many live bytes. */
export function reservedBytes(live: number): number {
  return withMargin(live, ARENA_MARGIN);
}

function withMargin(live: number, { small, large, constant }: Margin): number {
  return Math.ceil(Math.min(small * live, large * live + constant));
}

/** Most bytes that a run has in buffers and workspaces at a time. Workspaces of CUDA's kernels are not in it. */
export function sessionLiveBytes(
  { graph, optimization, compute }: OpenedGraph,
  lengths: Lengths,
  { provider }: Device,
): number {
  const isFolded = optimization === "full";
  const workspace = (node: Node, shape: ShapeOf) =>
    provider === "cpu" ? cpuWorkspace(node, shape, { isFolded, compute }) : 0;
  return liveBytes(graph, lengths, { isFolded, workspace });
}

/** Bytes of what a run is fed. */
export function inputBytes({ inputs }: Graph, lengths: Lengths): number {
  return bytesOf([...inputs.values()], lengths);
}

/** Bytes of what a run gives. */
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

/** Channels of a block in ONNX Runtime's NCHWc layout on the processors with the widest: 16 with AVX-512, 8 with AVX2. */
const WIDEST_BLOCK = 16;

// Workspaces of the CPU provider's kernels: onnxruntime/core/providers/cpu and contrib_ops/cpu/bert (1.29).
function cpuWorkspace(
  node: Node,
  shape: ShapeOf,
  { isFolded, compute }: { isFolded: boolean; compute: DType },
): number {
  const { operator, inputs, outputs } = node;
  const bytes = (elements: number) => elements * ELEMENT[compute].bytes;
  // A Conv reads and writes channels in blocks: copies of its input and its output, in buffers of their own.
  if (operator === "Conv" && isFolded) return bytes(blockedCount(shape(inputs[0]!)) + blockedCount(shape(outputs[0]!)));
  if (operator !== "MultiHeadAttention" && operator !== "Attention") return 0;
  // Copies of q, k and v with heads before tokens. Scores are stored whole where a bias is added to them, twice in ai.onnx's Attention, else block by block.
  const transposed = inputs.slice(0, 3).reduce((sum, name) => sum + count(shape(name)), 0);
  const copies = operator === "Attention" ? 2 : inputs.length > 3 ? 1 : 0;
  const scores = headsOf(node) * shape(inputs[0]!)[1]! * shape(inputs[1]!)[1]!;
  return bytes(transposed + copies * scores);
}

// Elements of [batch, channels, height, width] with the channels padded to whole blocks.
function blockedCount([batch = 1, channels = 1, ...area]: readonly number[]): number {
  return batch * Math.ceil(channels / WIDEST_BLOCK) * WIDEST_BLOCK * count(area);
}

function headsOf({ attributes }: Node): number {
  const heads = attributes["num_heads"] ?? attributes["q_num_heads"];
  return heads && "int" in heads ? heads.int : 1;
}
