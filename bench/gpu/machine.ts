// The machine of a measurement, and the peak of its GPU's used memory.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { findGpus } from "../../src/engine/cuda/gpus.js";
import { type Machine, machineFacts } from "../report.js";

/** Facts of a machine with a GPU. */
export interface GpuMachine extends Machine {
  readonly gpu?: string;
  readonly driver?: string;
  readonly gpuMemoryBytes?: number;
  readonly capability?: string;
}

/** Milliseconds between samples of used memory: short compared with a network's run, long compared with nvidia-smi's own work. */
const INTERVAL = 100;
const MIB = 1024 ** 2;

/** The facts of this machine and its first GPU, if nvidia-smi knows one. */
export async function gpuMachine(): Promise<GpuMachine> {
  const { gpus, source } = await findGpus();
  const gpu = source === "nvidia-smi" ? gpus[0] : undefined;
  if (gpu === undefined) return machineFacts();
  return {
    ...machineFacts(),
    gpu: gpu.name,
    ...(gpu.driver === undefined ? {} : { driver: gpu.driver }),
    ...(gpu.memory === undefined ? {} : { gpuMemoryBytes: gpu.memory }),
    ...(gpu.capability === undefined ? {} : { capability: gpu.capability }),
  };
}

/** A monitor of the first GPU's memory. */
export interface MemoryWatch extends Disposable {
  /** Peak of used bytes since the last call; undefined without samples. */
  peak(): number | undefined;
}

/** Starts to sample the GPU's used memory, of all processes. */
export function watchMemory(): MemoryWatch {
  let peak: number | undefined;
  const child = spawn(
    "nvidia-smi",
    ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0", "-lms", String(INTERVAL)],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  // Without nvidia-smi there are no samples.
  child.once("error", () => {});
  createInterface(child.stdout).on("line", (line) => {
    const bytes = Number(line) * MIB;
    if (Number.isFinite(bytes)) peak = Math.max(peak ?? 0, bytes);
  });
  return {
    peak() {
      const seen = peak;
      peak = undefined;
      return seen;
    },
    [Symbol.dispose]: () => void child.kill(),
  };
}
