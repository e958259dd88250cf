// The memory of this machine as a plan takes it.
import { inspectMachine } from "../../catalog/runtime/machine.js";
import { findGpus } from "../../engine/cuda/gpus.js";
import type { Device } from "../../engine/providers.js";
import type { PlanRequest } from "./edit-plan.js";

/** GPU memory of a CUDA context, which `run` has opened before it measures free memory: a typical value, not measured here. */
const CUDA_CONTEXT_BYTES = 0.6e9;

/** The memory to plan for: `vram` that was given, or what an edit would find free. */
export async function planMachine(
  { provider, index }: Device,
  vramGiven: number | undefined,
): Promise<Pick<PlanRequest, "machine" | "vram" | "isVramGiven">> {
  const { memory: ram } = await inspectMachine();
  const isVramGiven = vramGiven !== undefined;
  if (provider === "cpu") return { machine: { ram, gpu: undefined }, vram: vramGiven, isVramGiven };
  if (isVramGiven)
    return { machine: { ram, gpu: { total: vramGiven, available: vramGiven } }, vram: vramGiven, isVramGiven };
  const { memory: total, freeMemory } = (await findGpus()).gpus.find((gpu) => gpu.index === index) ?? {};
  const vram = freeMemory === undefined ? undefined : Math.max(freeMemory - CUDA_CONTEXT_BYTES, 0);
  return {
    machine: { ram, gpu: total === undefined ? undefined : { total, available: vram ?? total } },
    vram,
    isVramGiven,
  };
}
