// The report of a benchmark: the machine, the results, and both as a table.
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { installedRelease } from "../src/engine/cuda/release.js";
import { NETWORKS } from "./networks.js";

/** The machine and versions that results depend on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
  readonly onnxruntime: string;
  /** Versions of PyTorch, diffusers and transformers, where they were found. */
  readonly torch?: string;
  readonly diffusers?: string;
  readonly transformers?: string;
}

/** Reads the facts of this machine. */
export function machineFacts(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.version,
    onnxruntime: installedRelease().version,
  };
}

/** The current time: UTC, to the second. */
export function now(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}

/** Runs of one side, in seconds; the first one is left out of the medians. */
export interface Runs {
  readonly first: number;
  readonly median: number;
  /** Median of the processor time of all threads. */
  readonly processor: number;
  readonly all: readonly number[];
  readonly peakBytes: number;
}

/** One network, measured. Times in seconds. */
export interface Result {
  readonly network: string;
  readonly date: string;
  readonly nodes: number;
  readonly modelBytes: number;
  readonly graph: number;
  readonly session: number;
  /** Peak of a process that only opens the network, where it is not run. */
  readonly peakBytes: number;
  readonly qedit?: Runs;
  readonly pytorch?: Runs;
  /** Median of qedit over median of PyTorch: below 1 is faster. */
  readonly ratio?: number;
  /** The same of processor time. */
  readonly processorRatio?: number;
}

/** The median; for an even count the mean of the middle two. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
}

/** A file of results. */
export interface Report {
  readonly machine: Machine;
  readonly results: readonly Result[];
}

/** A report with the results that the file at `path` holds of other networks; throws if that file is from another machine. */
export function withEarlier(report: Report, path: string): Report {
  const earlier = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Report) : report;
  const isMeasured = (name: string) => report.results.some(({ network }) => network === name);
  const kept = earlier.results.filter(({ network }) => !isMeasured(network));
  if (kept.length > 0 && JSON.stringify(earlier.machine) !== JSON.stringify(report.machine)) {
    throw new Error(
      `Cannot add results to ${path}: it holds those of another machine or of other versions; measure all networks or give --json`,
    );
  }
  const order = Object.keys(NETWORKS);
  const results = [...kept, ...report.results].sort((a, b) => order.indexOf(a.network) - order.indexOf(b.network));
  return { machine: report.machine, results };
}

const COLUMNS = [
  "network",
  "nodes",
  "model",
  "graph",
  "session",
  "first run",
  "run",
  "peak",
  "PyTorch run",
  "PyTorch peak",
  "ratio",
  "CPU ratio",
];

/** The results as a Markdown table. */
export function resultTable(results: readonly Result[]): string {
  const rows = [COLUMNS, ...results.map(cells)];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => (column === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [line(COLUMNS), rule, ...rows.slice(1).map(line)].join("\n");
}

function cells({
  network,
  nodes,
  modelBytes,
  graph,
  session,
  peakBytes,
  qedit,
  pytorch,
  ratio,
  processorRatio,
}: Result): string[] {
  return [
    network,
    String(nodes),
    `${(modelBytes / 1000).toFixed(0)} kB`,
    seconds(graph),
    seconds(session),
    seconds(qedit?.first),
    seconds(qedit?.median),
    gigabytes(peakBytes),
    seconds(pytorch?.median),
    gigabytes(pytorch?.peakBytes),
    ratio?.toFixed(2) ?? "",
    processorRatio?.toFixed(2) ?? "",
  ];
}

function seconds(value: number | undefined): string {
  return value === undefined ? "" : `${value < 10 ? value.toFixed(2) : value.toFixed(1)} s`;
}

function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? "" : `${(bytes / 1e9).toFixed(2)} GB`;
}
