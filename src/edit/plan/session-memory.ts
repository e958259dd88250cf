// The memory of one open network: its weights, and what a run needs.

import { expectedHostBytes, inputBytes, outputBytes } from "../../engine/memory/session-run.js";
import { weightMemory } from "../../engine/memory/session-weights.js";
import type { Device } from "../../engine/providers.js";
import type { StepCacheNeeds } from "../../stages/networks/transformer-plan.js";
import { deviceBytes } from "../../stages/networks/within-memory.js";
import type { NetworkMemory } from "./edit-memory.js";
import type { EditRuns, Run } from "./edit-runs.js";
import { weightBytes } from "./graph-cost.js";
import type { PlannedNetwork } from "./networks.js";

/** Bytes of one network at its largest run. */
export interface SessionMemory {
  /** RAM that the system cannot reclaim while it runs. */
  readonly ram: number;
  /** Memory-mapped weights: the system may reclaim this RAM, then reads them again. */
  readonly mapped: number;
  /** Memory of the GPU; 0 on the CPU. */
  readonly gpu: number;
}

/**
 * RAM of Node.js, ONNX Runtime, sharp and the tokenizer with an open session, beside its weights and its arena: measured with Node 20 and ONNX
 * Runtime 1.29 on Linux (bench/plan-memory.ts). 0.07 GB of it is programs, which are mapped.
 */
const PROCESS_BYTES = 0.17e9;

/** RAM that CUDA adds to a process: a typical value, not measured here. */
const CUDA_HOST_BYTES = 0.6e9;

/** Share of what the heap keeps of earlier sessions that is not used again by one that folds kernels: measured as the above. */
const NOT_REUSED = 1 / 2;

/** Feeds and outputs exist in the main thread and in the worker. */
const COPIES = 2;

/** Where networks run: the device, and the memory plan of each network if there is a limit or a GPU. */
export interface SessionPlaces {
  readonly device: Device;
  readonly plans: readonly NetworkMemory[] | undefined;
}

/** Memory of each network that an edit runs, in the largest of its runs; they open one after another, in one process. */
export function sessionMemories(
  { runs, pictureBytes, finishBytes, stepCache }: Pick<EditRuns, "runs" | "pictureBytes" | "finishBytes" | "stepCache">,
  { device, plans }: SessionPlaces,
): ReadonlyMap<PlannedNetwork, SessionMemory> {
  let left = 0;
  const opened = [...runs].filter(([, made]) => made.length > 0);
  // Pictures are finished here, also where other machines decode them.
  const last = opened.at(-1)?.[0];
  return new Map(
    opened.map(([network, made]) => {
      const plan = plans?.find((each) => each.network === network.network);
      const cached = network.network === "transformer" && network.part === undefined ? stepCache : undefined;
      const after = network === last ? finishBytes : 0;
      const memory = sessionMemory(network, made, { device, pictureBytes, after, plan, left, stepCache: cached });
      if (device.provider === "cpu") left = Math.max(left, weightMemory(network.graph, isFolded(network)).left);
      return [network, memory] as const;
    }),
  );
}

interface SessionPlace {
  readonly device: Device;
  /** Of pictures in RAM. */
  readonly pictureBytes: number;
  /** Bytes that the process takes once it has closed, beside the pictures. */
  readonly after: number;
  readonly plan: NetworkMemory | undefined;
  /** Bytes that the heap keeps of sessions that closed before. */
  readonly left: number;
  /** What a step cache takes beside the network; undefined: it has none. */
  readonly stepCache: StepCacheNeeds | undefined;
}

function sessionMemory(network: PlannedNetwork, runs: readonly Run[], place: SessionPlace): SessionMemory {
  const { device, pictureBytes, after, left, plan } = place;
  const { graph } = network;
  const feedBytes = Math.max(
    0,
    ...runs.map(({ lengths }) => COPIES * (inputBytes(graph, lengths) + outputBytes(graph, lengths))),
  );
  const base = PROCESS_BYTES + pictureBytes;
  const host = base + feedBytes;
  if (device.provider !== "cpu")
    return {
      ram: Math.max(host + (place.stepCache?.stepCacheBytes ?? 0), base + after) + CUDA_HOST_BYTES,
      mapped: weightBytes(graph),
      gpu: deviceBytes(plan?.peak ?? weightBytes(graph), device),
    };
  const { ram, mapped } = hostMemory(network, runs, place);
  return { ram: Math.max(host + ram, base + left + after), mapped, gpu: 0 };
}

// Weights and arenas of a network on the CPU, as they are expected to be; a plan for a limit leaves some to spare.
function hostMemory(
  network: PlannedNetwork,
  runs: readonly Run[],
  { device, plan, left, stepCache }: SessionPlace,
): Pick<SessionMemory, "ram" | "mapped"> {
  const weights = weightMemory(network.graph, isFolded(network));
  const arena = expectedHostBytes(network, runs, device);
  const kept = weights.left > 0 ? left * NOT_REUSED : left;
  if (plan?.tile !== undefined) return { ram: kept + plan.peak, mapped: 0 };
  const { resident = 1, streamed = 0 } = plan?.groups ?? {};
  // Plans for a limit have it in their peak.
  const cached = stepCache ? stepCache.activations + stepCache.stepCacheBytes : 0;
  if (streamed === 0)
    return { ram: kept + Math.max(weights.opening, weights.resident + arena + cached), mapped: weights.mapped };
  // Of the layers that are open at a time, the copies in memory and the rest in the file; an arena for each kind of group.
  const arenas = (resident > 0 ? 1 : 0) + 1;
  const open = plan!.peak - arenas * plan!.activations;
  const copied = weights.resident / (weights.resident + weights.mapped);
  return { ram: kept + open * copied + arenas * arena, mapped: open * (1 - copied) };
}

function isFolded({ optimization }: PlannedNetwork): { readonly isFolded: boolean } {
  return { isFolded: optimization !== "none" };
}
