// The memory of one open network: its weights, and what a run needs.

import { inputBytes, outputBytes, runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import type { Lengths } from "../../graph/lengths.js";
import { ELEMENT } from "../../graph/types.js";
import type { StepCacheNeeds } from "../../stages/networks/transformer-plan.js";
import { deviceBytes } from "../../stages/networks/within-memory.js";
import type { NetworkMemory } from "./edit-memory.js";
import { laidOutBytes, weightBytes, weightElements } from "./graph-cost.js";
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

/** RAM of Node.js, ONNX Runtime, sharp and the tokenizer without any session: measured in runs of the tiny model (Node 20, ORT 1.29, Linux). */
const PROCESS_BYTES = 0.17e9;

/** RAM that CUDA adds to a process: a typical value, not measured here. */
const CUDA_HOST_BYTES = 0.6e9;

/** Constant-folded 3-D kernels take 1.5 times their float32 values (measured: 0.21 GB of the VAE encoder's weights held 0.30 GB, 0.29 GB of the decoder's 0.46 GB). */
const KERNEL_SHARE = 1.5;

/** Feeds and outputs exist in the main thread and in the worker. */
const COPIES = 2;

/** Where a network runs: the device, bytes of pictures in RAM, and its memory plan if there is a limit or a GPU. */
export interface SessionPlace {
  readonly device: Device;
  readonly pictureBytes: number;
  readonly plan: Pick<NetworkMemory, "activations" | "peak"> | undefined;
  /** What a step cache takes beside the transformer; undefined: there is none. */
  readonly stepCache?: StepCacheNeeds | undefined;
}

/** Memory of a network in the largest of its runs. */
export function sessionMemory(
  { network, part, graph, optimization, compute }: PlannedNetwork,
  runs: readonly Lengths[],
  { device, pictureBytes, plan, stepCache }: SessionPlace,
): SessionMemory {
  const isFolded = optimization === "full";
  const feedBytes = Math.max(
    0,
    ...runs.map((lengths) => COPIES * (inputBytes(graph, lengths) + outputBytes(graph, lengths))),
  );
  const host = PROCESS_BYTES + pictureBytes + feedBytes;
  const cached = network === "transformer" && part === undefined ? stepCache : undefined;
  const stored = weightBytes(graph);
  const laidOut = device.provider === "cpu" ? laidOutBytes(graph) : 0;
  if (plan && device.provider !== "cpu")
    return {
      ram: host + CUDA_HOST_BYTES + (cached?.stepCacheBytes ?? 0),
      mapped: stored,
      gpu: deviceBytes(plan.peak, device),
    };
  if (plan)
    return {
      ram: host + (isFolded ? plan.peak : plan.activations + Math.min(laidOut, plan.peak - plan.activations)),
      mapped: isFolded ? 0 : Math.max(plan.peak - plan.activations - laidOut, 0),
      gpu: 0,
    };
  const hasKernels = graph.nodes.some(({ operator }) => operator === "Conv");
  const widened = isFolded ? weightElements(graph) * ELEMENT.f32.bytes * (hasKernels ? KERNEL_SHARE : 1) : 0;
  const activations = Math.max(
    0,
    ...runs.map((lengths) => runBytes({ graph, optimization, compute }, lengths, device)),
  );
  const beside = cached ? cached.activations + cached.stepCacheBytes : 0;
  return { ram: host + widened + laidOut + activations + beside, mapped: isFolded ? 0 : stored - laidOut, gpu: 0 };
}
