// Resident memory of runs on the CPU, beside weights.
import type { Graph } from "../../graph/graph.js";
import { concrete, count, type Lengths } from "../../graph/lengths.js";
import { type ArenaChunk, ArenaModel } from "./arena-model.js";
import { type BufferStep, bufferPlan } from "./buffer-plan.js";
import { kernelWorkspaces } from "./kernel-workspaces.js";
import { elementBytes, type RunGraph } from "./run-graph.js";
import { runGraph } from "./session-graph.js";

/** A run at given lengths, and how often it is repeated. */
export interface RepeatedRun {
  readonly lengths: Lengths;
  readonly times: number;
}

/** Runs of a kind after which an arena does not grow any more. */
const ENOUGH_RUNS = 2;

/** Bytes of a session's arena that become resident in its runs. The arena keeps them until the session closes. */
export function residentRunBytes(
  graph: Graph,
  runs: readonly RepeatedRun[],
  { isFolded, threads }: { readonly isFolded: boolean; readonly threads: number },
): number {
  const run = runGraph(graph, { isFolded });
  const steps = bufferPlan(run);
  const arena = new ArenaModel();
  for (const { lengths, times } of runs)
    for (let index = 0; index < Math.min(times, ENOUGH_RUNS); index += 1)
      runOnce(steps, { run, lengths, threads, arena });
  return arena.residentBytes();
}

// What the graph gives is copied, and freed at the end.
function runOnce(
  steps: readonly BufferStep[],
  { run, lengths, threads, arena }: { run: RunGraph; lengths: Lengths; threads: number; arena: ArenaModel },
): void {
  const { values } = run;
  const shape = (name: string) => concrete(values, name, lengths);
  const chunks = new Map<string, ArenaChunk>();
  for (const { node, allocated, freed } of steps) {
    for (const name of allocated)
      chunks.set(name, arena.allocate(count(shape(name)) * elementBytes(values.get(name)!)));
    const workspaces = kernelWorkspaces(node, shape, threads).map((bytes) => arena.allocate(bytes));
    for (const workspace of workspaces.reverse()) arena.free(workspace);
    for (const name of freed) {
      const chunk = chunks.get(name);
      if (chunk) arena.free(chunk);
      chunks.delete(name);
    }
  }
  for (const chunk of chunks.values()) arena.free(chunk);
}
