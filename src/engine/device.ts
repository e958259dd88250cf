// Choosing a device: what the user asked for, or the GPU when a session opens on it, else the CPU and why.
import { access } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { QeditError } from "../errors.js";
import { Graph } from "../graph/graph.js";
import { float32 } from "../tensor.js";
import { modelOf, withSession, type Engine } from "./engine.js";
import { deviceName, parseDevice, type Device } from "./providers.js";
import { threadedEngine } from "./threaded.js";

/** An engine on the chosen device; `reason` says why `auto` did not take the GPU. */
export interface ChosenEngine {
  readonly engine: Engine;
  readonly reason: string | undefined;
}

/** Starts an engine on `auto`, `cpu`, `cuda` or `cuda:N`. Throws QEDIT_E_DEVICE when a GPU was asked for and does not work. */
export async function chooseEngine(wanted: string, threads: number): Promise<ChosenEngine> {
  const cpu = (): Engine => threadedEngine(parseDevice("cpu", threads));
  if (wanted === "cpu") return { engine: cpu(), reason: undefined };
  const device = parseDevice(wanted === "auto" ? "cuda" : wanted, threads);
  const fault = await cudaFault(device);
  if (typeof fault !== "string") return { engine: fault, reason: undefined };
  if (wanted === "auto") return { engine: cpu(), reason: fault };
  throw new QeditError("QEDIT_E_DEVICE", `Cannot compute on ${deviceName(device)}: ${fault}`, { hint: "--device cpu" });
}

// An engine on which a session ran, or why there is none.
async function cudaFault(device: Device): Promise<Engine | string> {
  const provider = await providerPath();
  if (provider === undefined) return `ONNX Runtime has no CUDA provider for ${process.platform} ${process.arch} here`;
  if (!(await exists(provider))) return "the CUDA provider of ONNX Runtime is not installed";
  const engine = threadedEngine(device);
  try {
    await tryOut(engine);
    return engine;
  } catch (error) {
    await engine.dispose();
    return error instanceof Error ? error.message : String(error);
  }
}

/** The smallest session: an addition. */
async function tryOut(engine: Engine): Promise<void> {
  const graph = new Graph("a trial");
  graph.output("y", graph.input("x", "f32", ["n"]).add(1));
  await withSession(engine, await modelOf(graph, "none"), (session) => session.run({ x: float32([1]) }));
}

// Where onnxruntime-node looks for the provider library: beside its own.
async function providerPath(): Promise<string | undefined> {
  const libraries: Readonly<Record<string, string>> = { linux: "libonnxruntime_providers_cuda.so", win32: "onnxruntime_providers_cuda.dll" };
  const library = libraries[process.platform];
  if (library === undefined) return undefined;
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node");
  return join(dirname(dirname(entry)), "bin", "napi-v6", process.platform, process.arch, library);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(() => true, () => false);
}
