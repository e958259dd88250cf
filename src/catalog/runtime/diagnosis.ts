// Everything that an edit needs of this machine, looked at and tried out; each problem with what mends it.
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
  /** undefined when it is nowhere. */
  readonly path: string | undefined;
}

/** What was found. */
export interface DoctorReport {
  readonly machine: Machine;
  readonly cuda: CudaReport;
  /** A session on each device that could be asked for; the CPU's first. */
  readonly sessions: readonly Trial[];
  readonly model: { readonly name: string; readonly files: readonly ModelFile[] };
  /** The device that `--device` chooses; undefined when it does not work. */
  readonly device: string | undefined;
  readonly works: boolean;
  /** What keeps the chosen device from working, and then what else an edit would stumble over. */
  readonly problems: readonly Problem[];
  /** What is no obstacle on the chosen device: why `auto` does not take the GPU. */
  readonly notes: readonly Problem[];
}

/** Memory below which even the smallest of the published sets of files does not load, in bytes: 20.4 GB of weights are mapped, not read. */
const LEAST_MEMORY = 15e9;

/** Looks at everything. Throws QEDIT_E_USAGE for a device or a model that does not exist. */
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
  // Also where something seems to be missing: a session that opens is right.
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
