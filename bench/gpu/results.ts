// The results of a measurement on a GPU, and their file, which is written after every part.
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { DType } from "../../src/graph/types.js";
import { writeFileAtomically } from "../../src/std/files.js";
import { median } from "../report.js";
import type { Answers } from "./child.js";
import type { GpuMachine } from "./machine.js";
import type { MeasureResult } from "./measures.js";
import type { GpuNetworkName } from "./networks.js";
import type { ParityRow } from "./parity.js";

/** Runs of one thing, in seconds: the first, and the median of the others. */
export interface GpuRuns {
  readonly first: number;
  readonly median: number;
  readonly all: readonly number[];
  readonly peakBytes?: number;
}

/** A network that was opened once and run with several numbers of references. */
export type NetworkResult = Answers["open"] & {
  /** Number of runs of each attention kernel, as printed by ONNX Runtime. */
  readonly attention: Readonly<Record<string, number>>;
  readonly runs: Readonly<Record<number, GpuRuns>>;
  /** Floating point operations of one run, by references. */
  readonly flops?: Readonly<Record<number, number>>;
};

/** A whole edit in its own process. */
export interface EditResult {
  readonly seconds: number;
  readonly stages: Readonly<Record<string, number>>;
  readonly steps: readonly number[];
  readonly peakBytes?: number;
}

/** Errors of a result: relative to the reference's root mean square, and to its largest value; null for NaN. */
export interface RelativeErrors {
  readonly rms: number | null;
  readonly largest: number | null;
}

/** PyTorch's runs of a network in the type that qedit computed in. */
export type PyTorchRuns = GpuRuns & {
  readonly network: string;
  readonly references: number;
  readonly way: "eager" | "compiled";
  /** Of qedit's result from this one: both are rounded. */
  readonly difference: RelativeErrors;
};

/** A network's result against PyTorch in float32 with the same weights and inputs. */
export type NetworkError = RelativeErrors & {
  readonly network: string;
  readonly references: number;
  readonly compute: DType;
  /** Of PyTorch's own result in the same type. */
  readonly own?: RelativeErrors;
};

/** PyTorch's results with the same shapes. */
export interface PyTorchResult {
  readonly versions: Readonly<Record<string, string>>;
  readonly matrixFlops?: number;
  readonly runs: readonly PyTorchRuns[];
  readonly errors: readonly NetworkError[];
  readonly notes: readonly string[];
}

/** A file of results; parts that were not measured are in `skipped`, with the reason. */
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
  /** Each in its own process. */
  edits: EditResult[];
  /** In one process, with every network open: the medians of several. */
  warm?: EditResult;
  /** By name, in the order of MEASURES. */
  measures: Record<string, MeasureResult>;
  pytorch?: PyTorchResult;
  skipped: Record<string, string>;
}

/** Runs of which the first is left out of the median. */
export function runsOf(all: readonly number[], peakBytes: number | undefined): GpuRuns {
  return { first: all[0]!, median: median(all.slice(1)), all, ...(peakBytes === undefined ? {} : { peakBytes }) };
}

/** Writes the report so far. */
export async function saveReport(path: string, report: GpuReport): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomically(path, new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
}

/** Reads a report; throws if there is none. */
export function readReport(path: string): GpuReport {
  if (!existsSync(path))
    throw new Error(`There is no ${path}: \`npm run bench:gpu\` writes it on a machine with a GPU`);
  return JSON.parse(readFileSync(path, "utf8")) as GpuReport;
}
