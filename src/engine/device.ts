// Chooses a device: the one that was named, or for `auto` the GPU when a session runs on it, else the CPU.

import { Graph } from "../graph/graph.js";
import { conv2d } from "../graph/operators.js";
import { QeditError } from "../std/errors.js";
import { float32 } from "../std/tensor.js";
import { explainFailure, inspectCuda, type Problem, platformProblem } from "./cuda/inspect-cuda.js";
import { inspectLibraries } from "./cuda/libraries.js";
import { providerFolder } from "./cuda/release.js";
import { type Device, deviceName, parseDevice } from "./providers.js";
import { childEngine } from "./sessions/child.js";
import { type Engine, modelOf, withSession } from "./sessions/engine.js";
import { pairedEngine } from "./sessions/paired.js";
import { threadedEngine } from "./sessions/threaded.js";

/** Where sessions live: in a worker thread, or in a child process, which ends alone when the system kills it or a library crashes. */
export type Isolation = "thread" | "process";

/** How an engine is started. */
export interface EngineOptions {
  /** "thread" unless given. */
  readonly isolation?: Isolation;
  /** Called when a process that ended by itself is started again, with the reason of its end. */
  readonly onRestart?: (reason: string) => void;
}

/** An engine on the chosen device; `reason` says why `auto` did not take the GPU. */
export interface ChosenEngine {
  readonly engine: Engine;
  readonly reason: string | undefined;
}

/**
 * Starts an engine on `auto`, `cpu`, `cuda` or `cuda:N`; `threads` as in Device. Throws QEDIT_E_USAGE for another name, and QEDIT_E_DEVICE with the
 * problems that doctor finds when a GPU was named and does not work.
 */
export async function chooseEngine(
  wanted: string,
  threads: number,
  { isolation = "thread", onRestart }: EngineOptions = {},
): Promise<ChosenEngine> {
  const start = (device: Device) => START[isolation](device, onRestart);
  const cpu = (): Engine => pairedEngine(parseDevice("cpu", threads), start);
  if (wanted === "cpu") return { engine: cpu(), reason: undefined };
  const device = parseDevice(wanted === "auto" ? "cuda" : wanted, threads);
  const opened = await openCuda(device, start);
  if (!isProblems(opened)) return { engine: opened, reason: undefined };
  const [first] = opened as readonly [Problem];
  if (wanted === "auto") return { engine: cpu(), reason: `${first.text} (\`qedit doctor --device cuda\` says more)` };
  throw new QeditError(
    "QEDIT_E_DEVICE",
    `Cannot compute on ${deviceName(device)}: ${opened.map(({ text }) => text).join("; ")}`,
    { hint: first.remedy },
  );
}

type Start = (device: Device, onRestart?: (reason: string) => void) => Engine;

const START: Readonly<Record<Isolation, Start>> = { thread: threadedEngine, process: childEngine };

// An engine on which a session ran, or the problems, most important first.
async function openCuda(device: Device, start: Start): Promise<Engine | readonly Problem[]> {
  const platform = platformProblem();
  if (platform) return [platform];
  // The trial does not need every library: without cuDNN an edit would fail in its middle.
  const provider = await providerFolder();
  const libraries = provider === undefined ? undefined : await inspectLibraries(provider).catch(() => undefined);
  if (libraries === undefined || libraries.missing.length > 0) return (await inspectCuda(device.index)).problems;
  const engine = pairedEngine(device, start);
  try {
    await runTrial(engine, addition());
    return engine;
  } catch (error) {
    await engine.dispose();
    return explainFailure(error, device.index);
  }
}

/** The result of a trial on a device. */
export interface Trial {
  readonly device: string;
  readonly works: boolean;
  /** Seconds to load the provider, open a session and run it; undefined when it does not work. */
  readonly seconds: number | undefined;
  /** Why it does not work; empty when it does. */
  readonly problems: readonly Problem[];
}

/** Opens a session on `cpu`, `cuda` or `cuda:N` and runs a convolution in it. Throws QEDIT_E_USAGE for another name. */
export async function tryDevice(wanted: string): Promise<Trial> {
  const device = parseDevice(wanted, 0);
  const began = performance.now();
  const failed = (problems: readonly Problem[]): Trial => ({
    device: deviceName(device),
    works: false,
    seconds: undefined,
    problems,
  });
  const engine = device.provider === "cuda" ? await openCuda(device, START.thread) : pairedEngine(device);
  if (isProblems(engine)) return failed(engine);
  try {
    await runTrial(engine, convolution());
    return {
      device: deviceName(device),
      works: true,
      seconds: Number(((performance.now() - began) / 1000).toFixed(3)),
      problems: [],
    };
  } catch (error) {
    if (device.provider === "cuda") return failed(await explainFailure(error, device.index));
    return failed([
      { text: error instanceof Error ? error.message : String(error), remedy: "Install qedit again: `npm i -g qedit`" },
    ]);
  } finally {
    await engine.dispose();
  }
}

function isProblems(opened: Engine | readonly Problem[]): opened is readonly Problem[] {
  return Array.isArray(opened);
}

/** Height and width of the input of trials. */
const SIDE = 8;

// The smallest session, since it runs at every start of qedit.
function addition(): Graph {
  const graph = new Graph("a trial");
  graph.output("y", graph.input("x", "f32", [1, 1, SIDE, SIDE]).add(1));
  return graph;
}

// On CUDA this loads cuDNN too.
function convolution(): Graph {
  const graph = new Graph("a trial");
  const kernel = {
    weight: graph.constant("f32", [1, 1, 3, 3], Array<number>(9).fill(1 / 9)),
    bias: graph.constant("f32", [1], [0]),
  };
  graph.output("y", conv2d(graph.input("x", "f32", [1, 1, SIDE, SIDE]), kernel, { stride: 1, pads: [1, 1, 1, 1] }));
  return graph;
}

async function runTrial(engine: Engine, graph: Graph): Promise<void> {
  await withSession(engine, await modelOf(graph, "none"), (session) => session.run({ x: float32([1, 1, SIDE, SIDE]) }));
}
