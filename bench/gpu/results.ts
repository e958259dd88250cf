// What a measurement on a GPU says, part by part, and the file that it is kept in as it comes.
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { writeFileAtomically } from "../../src/files.js";
import { median } from "../report.js";
import type { Answers } from "./child.js";
import type { GpuMachine } from "./machine.js";
import type { GpuNetworkName } from "./networks.js";
import type { ParityRow } from "./parity.js";

/** Runs of one thing, in seconds: the first, and the median of the others. */
export interface GpuRuns {
  readonly first: number;
  readonly median: number;
  readonly all: readonly number[];
  readonly peakBytes?: number;
}

/** A network that was opened once and run with so many references. */
export type NetworkResult = Answers["open"] & {
  /** Times that ONNX Runtime named each attention kernel. */
  readonly attention: Readonly<Record<string, number>>;
  readonly runs: Readonly<Record<number, GpuRuns>>;
  /** Floating point operations of one run, by references. */
  readonly flops?: Readonly<Record<number, number>>;
};

/** A whole edit as a process of its own. */
export interface EditResult {
  readonly seconds: number;
  readonly stages: Readonly<Record<string, number>>;
  readonly steps: readonly number[];
  readonly peakBytes?: number;
}

/** What PyTorch did with the same shapes. */
export interface PyTorchResult {
  readonly versions: Readonly<Record<string, string>>;
  readonly matrixFlops?: number;
  readonly transformer: readonly (GpuRuns & { readonly references: number; readonly way: string; readonly error: number })[];
  readonly networks: Readonly<Record<string, GpuRuns>>;
  readonly notes: readonly string[];
}

/** A file of results; parts that there was no time for are in `skipped`, with the reason. */
export interface GpuReport {
  readonly date: string;
  readonly isRehearsal: boolean;
  readonly device: string;
  readonly machine: GpuMachine;
  checkpoints?: { readonly bytes: number; readonly seconds: number };
  parity?: readonly ParityRow[];
  /** Floating point operations a second of products of large matrices, in the transformer's type. */
  matrixFlops?: number;
  networks: Partial<Record<GpuNetworkName, NetworkResult>>;
  edits: EditResult[];
  pytorch?: PyTorchResult;
  skipped: Record<string, string>;
}

/** Runs of which the first is left out of the median. */
export function runsOf(all: readonly number[], peakBytes: number | undefined): GpuRuns {
  return { first: all[0]!, median: median(all.slice(1)), all, ...(peakBytes === undefined ? {} : { peakBytes }) };
}

/** Writes the report as it stands. */
export async function saveReport(path: string, report: GpuReport): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomically(path, new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
}

/** Reads a report; throws when there is none. */
export function readReport(path: string): GpuReport {
  if (!existsSync(path)) throw new Error(`There is no ${path}: \`npm run bench:gpu\` writes it on a machine with a GPU`);
  return JSON.parse(readFileSync(path, "utf8")) as GpuReport;
}

type Cells = readonly string[];

/** The report as Markdown: the machine, then a table of every part that was measured. */
export function reportText(report: GpuReport): string {
  const { machine, pytorch } = report;
  const where = [machine.gpu ?? machine.cpu, machine.driver && `driver ${machine.driver}`, `Node ${machine.node}`, `onnxruntime-node ${machine.onnxruntime}`, pytorch && `PyTorch ${pytorch.versions["torch"]}`];
  const lines = [
    `${where.filter(Boolean).join(", ")}; ${report.date}${report.isRehearsal ? "; a rehearsal on tiny networks: the numbers mean nothing" : ""}`,
    "",
    ...table(["what", "qedit", "PyTorch eager", "PyTorch compiled", "ratio", "floor", "times the floor", "peak"], [...stepRows(report), ...networkRows(report)]),
    "",
    ...table(["whole edit, from process to picture", "seconds", "of it in stages", "peak"], report.edits.map(editRow)),
    "",
    ...factLines(report),
  ];
  return lines.join("\n");
}

function stepRows({ networks, pytorch, matrixFlops }: GpuReport): Cells[] {
  const names = { transformer: "one step", "transformer-lora": "one step with a LoRA" } as const;
  return Object.entries(names).flatMap(([name, title]) => {
    const network = networks[name as keyof typeof names];
    return Object.entries(network?.runs ?? {}).map(([references, runs]) => {
      const peer = (way: string) => (name === "transformer" ? pytorch?.transformer.find((each) => each.way === way && each.references === Number(references)) : undefined);
      const best = Math.min(...["eager", "compiled"].map((way) => peer(way)?.median ?? Infinity));
      const flops = network?.flops?.[Number(references)];
      const floor = flops === undefined || matrixFlops === undefined ? undefined : flops / matrixFlops;
      return [
        `${title}, ${references} reference${references === "1" ? "" : "s"}`, seconds(runs.median), seconds(peer("eager")?.median), seconds(peer("compiled")?.median),
        Number.isFinite(best) ? (runs.median / best).toFixed(2) : "", seconds(floor), floor === undefined ? "" : (runs.median / floor).toFixed(2), gigabytes(runs.peakBytes),
      ];
    });
  });
}

function networkRows({ networks, pytorch }: GpuReport): Cells[] {
  const names = ["vae-encode", "vae-decode", "vision", "language"] as const;
  return names.flatMap((name) => {
    const runs = networks[name]?.runs[1];
    if (!runs) return [];
    const peer = pytorch?.networks[name];
    return [[name, seconds(runs.median), seconds(peer?.median), "", peer ? (runs.median / peer.median).toFixed(2) : "", "", "", gigabytes(runs.peakBytes)]];
  });
}

function editRow({ seconds: all, stages, peakBytes }: EditResult, index: number): Cells {
  const parts = Object.entries(stages).map(([stage, took]) => `${stage} ${seconds(took)}`);
  return [index === 0 ? "first" : "again", seconds(all), parts.join(", "), gigabytes(peakBytes)];
}

function factLines({ networks, parity, matrixFlops, pytorch, skipped }: GpuReport): string[] {
  const attention = Object.entries(networks).flatMap(([name, { attention: kernels }]) => Object.keys(kernels).map((kernel) => `${name} ${kernel}`));
  const missing = Object.entries(networks).flatMap(([name, { withoutKernel }]) => withoutKernel.map((reason) => `- ${name} has no kernel for ${reason}`));
  const errors = pytorch?.transformer.map(({ references, way, error }) => `${references} ${way} ${error.toExponential(1)}`) ?? [];
  return [
    ...(matrixFlops === undefined ? [] : [`- matrix rate: ${(matrixFlops / 1e12).toFixed(2)} TFLOP/s in ONNX Runtime${pytorch?.matrixFlops ? `, ${(pytorch.matrixFlops / 1e12).toFixed(2)} in PyTorch` : ""}`]),
    ...(attention.length === 0 ? [] : [`- attention kernels: ${attention.join(", ")}`]),
    ...(parity ? [`- tiny networks against the reference: ${parity.map(({ network, compute, error, tolerance }) => `${network} ${compute} ${error.toExponential(1)}${error <= tolerance ? "" : ` over ${tolerance}`}`).join(", ")}`] : []),
    ...(errors.length === 0 ? [] : [`- one step against PyTorch with the same weights, largest error: ${errors.join(", ")}`]),
    ...missing,
    ...(pytorch?.notes ?? []).map((note) => `- PyTorch: ${note}`),
    ...Object.entries(skipped).map(([part, reason]) => `- not measured: ${part} (${reason})`),
  ];
}

function table(head: Cells, rows: readonly Cells[]): string[] {
  if (rows.length === 0) return [];
  return [head, head.map((_, column) => (column === 0 ? "---" : "---:")), ...rows].map((row) => `| ${row.join(" | ")} |`);
}

function seconds(value: number | undefined): string {
  if (value === undefined) return "";
  return value < 0.1 ? `${(value * 1000).toFixed(1)} ms` : `${value.toFixed(value < 10 ? 3 : 1)} s`;
}

function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? "" : `${(bytes / 1e9).toFixed(1)} GB`;
}
