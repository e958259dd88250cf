// Checks everything that an edit needs of this machine, and gives each problem with its remedy.
import { type CudaReport, inspectCuda, type Problem } from "../../engine/cuda/inspect-cuda.js";
import { type Trial, tryDevice } from "../../engine/device.js";
import { parseDevice } from "../../engine/providers.js";
import { gigabytes } from "../../std/byte-sizes.js";
import type { Emit } from "../../std/events.js";
import { publishedFinder } from "../local/find.js";
import { publishedModel } from "../published/models.js";
import { inspectMachine, type Machine } from "./machine.js";

/** What the user asked about. */
export interface DoctorChoice {
  /** `auto`, `cpu`, `cuda` or `cuda:N`. */
  readonly device: string;
  readonly model: string | undefined;
}

/** A file of the model, and where it is. */
export interface ModelFile {
  readonly role: string;
  readonly file: string;
  /** Undefined when it is not on this machine. */
  readonly path: string | undefined;
}

/** What was found. */
export interface DoctorReport {
  readonly machine: Machine;
  readonly cuda: CudaReport;
  /** A trial session on each device, the CPU first. */
  readonly sessions: readonly Trial[];
  readonly model: { readonly name: string; readonly files: readonly ModelFile[] };
  /** The device that the parameter `device` chooses; undefined when it does not work. */
  readonly device: string | undefined;
  readonly works: boolean;
  /** Problems of the chosen device, then of the machine and the model. */
  readonly problems: readonly Problem[];
  /** Why `auto` does not choose the GPU. */
  readonly notes: readonly Problem[];
}

/** Least memory for the smallest published model, bytes: its 20.4 GB of weights are mapped, not read. */
const LEAST_MEMORY = 15e9;

/** Examines the machine, CUDA and the model files. Throws QEDIT_E_USAGE for a device or a model that does not exist. */
export async function examine({ device, model }: DoctorChoice, emit: Emit): Promise<DoctorReport> {
  const wanted = device === "auto" ? "cuda" : device;
  const { provider, index } = parseDevice(wanted, 0);
  const published = await publishedModel(model);
  emit({ kind: "activity", text: "looking at the machine" });
  const [machine, cuda] = [await inspectMachine(), await inspectCuda(index)];
  emit({ kind: "activity", text: "looking for models" });
  const files: ModelFile[] = [];
  const find = publishedFinder();
  for (const [role, file] of Object.entries(published.files))
    files.push({ role, file: file.file, path: await find(file) });
  emit({ kind: "activity", text: "opening a session on cpu" });
  const cpuTrial = await tryDevice("cpu");
  emit({ kind: "activity", text: "opening a session on cuda" });
  // Also when a library seems to be missing: the session decides.
  const cudaTrial = await tryDevice(provider === "cuda" ? wanted : "cuda");
  const isOnGpu = provider === "cuda" && (device !== "auto" || cudaTrial.works);
  const chosen = isOnGpu ? cudaTrial : cpuTrial;
  return {
    machine,
    cuda,
    sessions: [cpuTrial, cudaTrial],
    model: { name: published.name, files },
    device: chosen.works ? chosen.device : undefined,
    works: chosen.works,
    problems: [...chosen.problems, ...machineProblems(machine), ...modelProblems(published.name, files)],
    notes: isOnGpu ? [] : cudaTrial.problems,
  };
}

function machineProblems({ node, oldestNode, isNodeNewEnough, memory }: Machine): Problem[] {
  const problems: Problem[] = [];
  if (!isNodeNewEnough)
    problems.push({
      text: `Node.js ${node} is too old: ${oldestNode} or newer is wanted`,
      remedy: "Install a newer Node.js: https://nodejs.org",
    });
  if (memory.total < LEAST_MEMORY) {
    problems.push({
      text: `${gigabytes(memory.total)} of memory are little for this model: 16 GB or more are wanted`,
      remedy: "Close other programs, or raise the container's limit",
    });
  }
  return problems;
}

function modelProblems(name: string, files: readonly ModelFile[]): Problem[] {
  const missing = files.filter(({ path }) => path === undefined);
  if (missing.length === 0) return [];
  return [
    {
      text: `${missing.map(({ file }) => file).join(", ")} of ${name} ${missing.length === 1 ? "is" : "are"} not on this machine`,
      remedy: `\`qedit models pull ${name}\``,
    },
  ];
}
