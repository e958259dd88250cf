// The cost of each stage: operations, bytes, memory, seconds.

import { type Device, deviceName } from "../../engine/providers.js";
import type { Optimization } from "../../engine/sessions/engine.js";
import type { DType } from "../../graph/types.js";
import type { NetworkId } from "../../models/network-id.js";
import { STAGES } from "../../stages/stage.js";
import { bytesAhead, type NetworkMemory } from "./edit-memory.js";
import type { EditRuns, Run } from "./edit-runs.js";
import { graphFlops, weightBytes, weightElements } from "./graph-cost.js";
import type { PlannedNetwork } from "./networks.js";
import { type SessionMemory, sessionMemories } from "./session-memory.js";
import { estimateSession, type SessionEstimate, type SessionTiming } from "./timings.js";

/** The cost of one network of a stage. */
export interface NetworkPlan {
  readonly network: NetworkId;
  /** "prefix": what computes the keys and values of text and references once for all steps. */
  readonly part?: "prefix";
  /** Compute type. */
  readonly compute: DType;
  /** "full" and "widened": weights are widened when it opens; "none": at every run. */
  readonly optimization: Optimization;
  /** Weights: number of elements, and bytes as stored. */
  readonly parameters: number;
  readonly weightBytes: number;
  /** Each distinct run with its number of repetitions. */
  readonly runs: readonly {
    readonly lengths: Readonly<Record<string, number>>;
    readonly times: number;
    readonly flops: number;
  }[];
  /** Total of all runs. */
  readonly flops: number;
  readonly memory: SessionMemory;
  /** undefined if it has never run on this machine. */
  readonly seconds: SessionEstimate | undefined;
}

/** The cost of a stage. */
export interface StagePlan {
  readonly stage: string;
  readonly networks: readonly NetworkPlan[];
  readonly flops: number;
  readonly readBytes: number;
  /** Memory of its largest network (one is open at a time), and of networks that open for a later stage. */
  readonly memory: SessionMemory;
  readonly seconds: number | undefined;
}

/** Plans every stage that runs something. */
export function stagePlans(edit: EditRuns, { device, timings, plans }: Machine): StagePlan[] {
  const memories = sessionMemories(edit, { device, plans });
  return STAGES.flatMap((stage) => {
    const planned = [...edit.runs].filter(([network, made]) => network.stage === stage && made.length > 0);
    const networks = planned.map(([network, made]) =>
      networkPlan(network, made, { device, timings, memory: memories.get(network)! }),
    );
    if (networks.length === 0) return [];
    const estimates = networks.map(({ seconds }) => seconds);
    return [
      {
        stage,
        networks,
        flops: sum(networks.map(({ flops }) => flops)),
        readBytes: weightBytes(...planned.map(([{ graph }]) => graph)),
        memory: withAhead(mostMemory(networks.map(({ memory }) => memory)), {
          ahead: bytesAhead(plans ?? [], stage),
          device,
        }),
        seconds: estimates.some((estimate) => estimate === undefined)
          ? undefined
          : sum(estimates.map((estimate) => estimate!.open + estimate!.run)),
      },
    ];
  });
}

function withAhead(memory: SessionMemory, { ahead, device }: { ahead: number; device: Device }): SessionMemory {
  return device.provider === "cpu"
    ? { ...memory, mapped: memory.mapped + ahead }
    : { ...memory, gpu: memory.gpu + ahead };
}

interface Machine {
  readonly device: Device;
  readonly timings: readonly SessionTiming[];
  /** Memory plans of the networks; undefined on the CPU without a limit. */
  readonly plans: readonly NetworkMemory[] | undefined;
}

function networkPlan(
  network: PlannedNetwork,
  made: readonly Run[],
  { device, timings, memory }: Omit<Machine, "plans"> & Pick<NetworkPlan, "memory">,
): NetworkPlan {
  const { graph, optimization, compute } = network;
  const runs = made.map(({ lengths, times }) => ({ lengths, times, flops: graphFlops(graph, lengths) }));
  const flops = sum(runs.map((run) => run.flops * run.times));
  const load = {
    network: network.network,
    device: deviceName(device),
    threads: device.threads,
    optimization,
    weightBytes: weightBytes(graph),
    flops,
    runs: sum(runs.map(({ times }) => times)),
  };
  return {
    network: network.network,
    ...(network.part && { part: network.part }),
    compute,
    optimization,
    parameters: weightElements(graph),
    weightBytes: load.weightBytes,
    runs,
    flops,
    memory,
    seconds: estimateSession(load, timings),
  };
}

/** The maximum of each kind of memory. */
export function mostMemory(memories: readonly SessionMemory[]): SessionMemory {
  const most = (of: keyof SessionMemory) => Math.max(0, ...memories.map((memory) => memory[of]));
  return { ram: most("ram"), mapped: most("mapped"), gpu: most("gpu") };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
