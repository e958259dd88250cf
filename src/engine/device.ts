// Choosing a device: what the user asked for, or the GPU when a session opens on it, else the CPU and why.
import { QeditError } from "../errors.js";
import { Graph } from "../graph/graph.js";
import { float32 } from "../tensor.js";
import { explainFailure, inspectCuda, platformProblem, type Problem } from "./cuda.js";
import { modelOf, withSession, type Engine } from "./engine.js";
import { inspectLibraries } from "./libraries.js";
import { deviceName, parseDevice, type Device } from "./providers.js";
import { providerFolder } from "./release.js";
import { threadedEngine } from "./threaded.js";

/** An engine on the chosen device; `reason` says why `auto` did not take the GPU. */
export interface ChosenEngine {
  readonly engine: Engine;
  readonly reason: string | undefined;
}

/** Starts an engine on `auto`, `cpu`, `cuda` or `cuda:N`. Throws QEDIT_E_DEVICE, with what doctor would find, when a GPU was asked for and does not work. */
export async function chooseEngine(wanted: string, threads: number): Promise<ChosenEngine> {
  const cpu = (): Engine => threadedEngine(parseDevice("cpu", threads));
  if (wanted === "cpu") return { engine: cpu(), reason: undefined };
  const device = parseDevice(wanted === "auto" ? "cuda" : wanted, threads);
  const opened = await openCuda(device);
  if (!Array.isArray(opened)) return { engine: opened as Engine, reason: undefined };
  const [first] = opened as [Problem];
  if (wanted === "auto") return { engine: cpu(), reason: `${first.text} (\`qedit doctor --device cuda\` says more)` };
  throw new QeditError("QEDIT_E_DEVICE", `Cannot compute on ${deviceName(device)}: ${opened.map(({ text }) => text).join("; ")}`, { hint: first.remedy });
}

// An engine on which a session ran, or what is in the way, most important first.
async function openCuda(device: Device): Promise<Engine | readonly Problem[]> {
  const platform = platformProblem();
  if (platform) return [platform];
  // What a trial would not meet, cuDNN above all, would fail in the middle of an edit.
  const provider = await providerFolder();
  const { missing } = provider === undefined ? { missing: [] } : await inspectLibraries(provider).catch(() => ({ missing: [] }));
  if (provider === undefined || missing.length > 0) return (await inspectCuda(device.index)).problems;
  const engine = threadedEngine(device);
  try {
    await tryOut(engine);
    return engine;
  } catch (error) {
    await engine.dispose();
    return explainFailure(error, device.index);
  }
}

/** The smallest session: an addition. Throws what ONNX Runtime does. */
export async function tryOut(engine: Engine): Promise<void> {
  const graph = new Graph("a trial");
  graph.output("y", graph.input("x", "f32", ["n"]).add(1));
  await withSession(engine, await modelOf(graph, "none"), (session) => session.run({ x: float32([1]) }));
}
