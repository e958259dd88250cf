// What runs of an open graph take of their device beside weights: on the CPU what ONNX Runtime's arena is simulated to take, on a GPU live bytes
// times a measured margin.
import { availableParallelism } from "node:os";
import type { Graph } from "../../graph/graph.js";
import { type Lengths, lengthOf } from "../../graph/lengths.js";
import { type DType, ELEMENT } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { Device } from "../providers.js";
import type { Optimization } from "../sessions/engine.js";
import { type RepeatedRun, residentRunBytes } from "./host-run.js";
import { liveBytes, type RunOptions } from "./run-memory.js";

/** A graph as it is opened. */
export interface OpenedGraph {
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
}

/**
 * What is planned for a limit on the CPU beside what a run is expected to take, which was 0.9 to 1.07 of what was measured (bench/plan-memory.ts):
 * channels are laid out in other blocks on other processors.
 */
const HOST_MARGIN = 1.2;

/**
 * What an arena reserves: each region is twice the last one, up to 1 GiB, and what is left of the last one is not used. Measured on the CPU, by
 * the same test: 0.8 (a tiny VAE decoder) to 3.0 times (a block of the transformer, 0.5 GB); 1.7 times with 1.3 GB live. Not measured on a
 * GPU, whose arena is the same code.
 */
const ARENA_MARGIN = { small: 3.2, large: 1.3, constant: 1024 ** 3 };

/** Bytes to plan for a run beside weights: on the CPU of host memory, on a GPU what the arena reserves and what is fed. */
export function runBytes(opened: OpenedGraph, lengths: Lengths, device: Device): number {
  if (device.provider === "cpu")
    return Math.ceil(HOST_MARGIN * expectedHostBytes(opened, [{ lengths, times: Number.POSITIVE_INFINITY }], device));
  return reservedBytes(sessionLiveBytes(opened, lengths)) + inputBytes(opened.graph, lengths);
}

/** Bytes of host memory that runs on the CPU are expected to take beside weights, without any margin. */
export function expectedHostBytes(
  { graph, optimization }: Pick<OpenedGraph, "graph" | "optimization">,
  runs: readonly RepeatedRun[],
  { threads }: Pick<Device, "threads">,
): number {
  return residentRunBytes(graph, runs, {
    isFolded: optimization !== "none",
    threads: threads === 0 ? availableParallelism() : threads,
  });
}

/** Bytes that an arena reserves for a run with so many live bytes. */
export function reservedBytes(live: number): number {
  const { small, large, constant } = ARENA_MARGIN;
  return Math.ceil(Math.min(small * live, large * live + constant));
}

/** Most bytes that a run has in buffers at a time, and in workspaces where they are told: those of CUDA's kernels are not known. */
export function sessionLiveBytes(
  { graph, optimization }: OpenedGraph,
  lengths: Lengths,
  workspace: RunOptions["workspace"] = () => 0,
): number {
  return liveBytes(graph, lengths, { isFolded: optimization !== "none", workspace });
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
