// qedit doctor: checks what an edit needs of this machine, and how to fix what is missing.
import { type DoctorReport, examine } from "../../catalog/runtime/diagnosis.js";
import { EXIT } from "../../edit/error-table.js";
import type { Gpu } from "../../engine/cuda/gpus.js";
import type { LibraryReport } from "../../engine/cuda/libraries.js";
import { gigabytes } from "../../std/byte-sizes.js";
import { defineCommand } from "../command.js";
import { dataInFlags } from "../render/in-flags.js";
import type { Style } from "../render/style.js";
import { computeOptions } from "../settings/shared-options.js";

const { device, model } = computeOptions;

/** `qedit doctor --device cuda`. */
export const doctor = defineCommand({
  examples: ["qedit doctor", "qedit doctor --device cuda", "qedit doctor --json"],
  options: { device, model },
  async perform({ settings }, terminal) {
    const choice = { device: settings.device ?? "auto", model: settings.model };
    const report = dataInFlags(await examine(choice, terminal.emit));
    terminal.result(report, linesOf(report, terminal.style));
    return report.works ? EXIT.ok : EXIT.runtime;
  },
});

type Row = readonly [mark: "ok" | "no" | "none", name: string, value: string];

function linesOf(report: DoctorReport, style: Style): string[] {
  const { works, device: chosen, problems, notes } = report;
  const marks = { ok: style.green("✔"), no: style.red("✖"), none: " " };
  const rows = [...machineRows(report), ...cudaRows(report), ...sessionRows(report), ...modelRows(report)];
  const remedies = (list: DoctorReport["problems"]) =>
    list.flatMap(({ text, remedy }) => [`  - ${text}`, `    ${style.dim(remedy)}`]);
  return [
    ...rows.map(([mark, name, value]) => `${marks[mark]} ${name.padEnd(12)} ${value}`),
    "",
    ...(problems.length === 0 ? [] : ["Problems:", ...remedies(problems)]),
    ...(notes.length === 0 ? [] : ["Why not the GPU:", ...remedies(notes)]),
    works ? `${marks.ok} Edits compute on ${chosen}` : `${marks.no} The chosen device does not work`,
  ];
}

function machineRows({ machine }: DoctorReport): Row[] {
  const { cpu, memory, disk } = machine;
  return [
    ["none", "qedit", machine.qedit],
    [machine.isNodeNewEnough ? "ok" : "no", "Node.js", machine.node],
    ["none", "system", machine.glibc === undefined ? machine.system : `${machine.system}, glibc ${machine.glibc}`],
    ["none", "CPU", `${cpu.model}, ${cpu.threads} ${cpu.threads === 1 ? "thread" : "threads"}`],
    ["none", "memory", `${gigabytes(memory.total)}, ${gigabytes(memory.available)} available`],
    ["none", "disk", `${disk.free === undefined ? "?" : gigabytes(disk.free)} free for ${disk.folder}`],
  ];
}

function cudaRows({ cuda }: DoctorReport): Row[] {
  const { gpus, source, failure } = cuda.gpus;
  const { version, hasCuda, platform } = cuda.release;
  const rows: Row[] =
    gpus.length === 0
      ? [["no", "GPU", failure === undefined ? "no NVIDIA GPU" : `none; nvidia-smi says: ${failure}`]]
      : gpus.map((gpu) => [source === "the PCI bus" ? "no" : "ok", `GPU ${gpu.index}`, gpuText(gpu)]);
  rows.push(["ok", "ONNX Runtime", version]);
  if (!hasCuda) return [...rows, ["no", "CUDA", `onnxruntime-node has none for ${platform.replace("-", " ")}`]];
  rows.push(
    cuda.provider === undefined
      ? ["no", "CUDA", "the provider is not installed"]
      : ["ok", "CUDA", `provider in ${cuda.provider}`],
  );
  return [...rows, ...(cuda.libraries === undefined ? [] : libraryRows(cuda.libraries))];
}

function libraryRows({ found, missing, unused }: LibraryReport): Row[] {
  // Leaves out system libraries that were found and that only other libraries need.
  const shown = found.filter(
    ({ soname, isSearched, neededBy }) => !isSearched || /^lib(cu|nv)/.test(soname) || /providers/.test(neededBy),
  );
  return [
    ...shown.map(
      ({ soname, path, source, isSearched }): Row => [
        "ok",
        "",
        `${soname}  ${path} (${source}${isSearched ? "" : "; loaded by qedit"})`,
      ],
    ),
    ...missing.map(
      ({ soname, neededBy, unfit }): Row => [
        "no",
        "",
        `${soname}  not found, needed by ${neededBy}${unfit.map((each) => `; ${each}`).join("")}`,
      ],
    ),
    ...unused.map(({ soname }): Row => ["none", "", `${soname}  not found, and not needed by qedit`]),
  ];
}

function gpuText({ name, driver, memory, freeMemory, capability }: Gpu): string {
  const facts = [
    driver === undefined ? undefined : `driver ${driver}`,
    memory === undefined
      ? undefined
      : `${gigabytes(memory)}${freeMemory === undefined ? "" : `, ${gigabytes(freeMemory)} free`}`,
    capability === undefined ? undefined : `compute capability ${capability}`,
  ];
  return [name, ...facts.filter((fact) => fact !== undefined)].join(", ");
}

function sessionRows({ sessions }: DoctorReport): Row[] {
  return sessions.map(({ device: name, works, seconds }) => [
    works ? "ok" : "no",
    "session",
    works ? `${name} in ${seconds!.toFixed(2)} s` : `${name} does not open`,
  ]);
}

function modelRows({ model: { name, files } }: DoctorReport): Row[] {
  return files.map(({ role, file, path }) => [
    path === undefined ? "no" : "ok",
    "model",
    path ?? `${name}: no ${role} (${file})`,
  ]);
}
