// The machine that a measurement runs on, and how much of its GPU's memory is taken while it runs.
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

/** Milliseconds between two looks at the memory: short beside a network, long beside nvidia-smi's own work. */
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

/** A watch over the memory of the first GPU. */
export interface MemoryWatch extends Disposable {
  /** Most bytes taken since the last call; undefined when nothing was seen. */
  peak(): number | undefined;
}

/** Starts to look at the GPU's memory; what other processes hold counts too. */
export function watchMemory(): MemoryWatch {
  let peak: number | undefined;
  const child = spawn(
    "nvidia-smi",
    ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0", "-lms", String(INTERVAL)],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  // Without nvidia-smi there is nothing to see.
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
