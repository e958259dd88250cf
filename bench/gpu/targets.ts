// The targets on an H200 for an edit at 1024² with four steps, compared with a report.
import type { GpuNetworkName } from "./networks.js";
import type { GpuReport, NetworkError, RelativeErrors } from "./results.js";

/** Largest relative error of any network against PyTorch in float32 with the same weights. */
export const MOST_ERROR = 2e-2;

/**
 * Networks in a type that an edit uses only on request. Their errors are reported but have no target: over all layers PyTorch's own errors are at
 * the limit (bench/rounding.py --deep).
 */
const OPTIONAL: readonly string[] = ["language-bf16", "vision-bf16"] satisfies readonly GpuNetworkName[];

/** One target. */
export interface Target {
  readonly what: string;
  readonly limit: number;
  /** undefined if not measured. */
  readonly measured: number | undefined;
  readonly unit: "s" | "GB" | "times" | "";
}

/** All targets with measured values. */
export function targetsOf(report: GpuReport): readonly Target[] {
  const { edits, warm } = report;
  const peaks = edits.flatMap(({ peakBytes }) => (peakBytes === undefined ? [] : [peakBytes / 1e9]));
  return [
    { what: "a step with 1 reference", limit: 0.3, measured: step(report, 1), unit: "s" },
    { what: "the same, over PyTorch's", limit: 1, measured: overPyTorch(report, 1), unit: "times" },
    { what: "a step with 2 references", limit: 0.51, measured: step(report, 2), unit: "s" },
    { what: "the same, over PyTorch's", limit: 1, measured: overPyTorch(report, 2), unit: "times" },
    { what: "a warm edit with 1 reference", limit: 1.4, measured: warm?.seconds, unit: "s" },
    // Only for the second process the files are certainly in the page cache.
    { what: "cold process to picture", limit: 12, measured: edits.at(-1)?.seconds, unit: "s" },
    {
      what: "peak memory of an edit",
      limit: 24,
      measured: peaks.length === 0 ? undefined : Math.max(...peaks),
      unit: "GB",
    },
    { what: "largest relative error of a network", limit: MOST_ERROR, measured: largestError(report), unit: "" },
  ];
}

/** Whether a target is met; undefined if not measured. */
export function isMet({ measured, limit }: Target): boolean | undefined {
  return measured === undefined ? undefined : measured <= limit;
}

/** The larger of the two errors; infinite for NaN. */
export function worse({ rms, largest }: RelativeErrors): number {
  const error = Math.max(rms ?? Infinity, largest ?? Infinity);
  return Number.isNaN(error) ? Infinity : error;
}

/** Whether the tiny networks match the reference, and no network at full size differs from PyTorch by more than MOST_ERROR. */
export function isRight({ parity, pytorch }: GpuReport): boolean {
  return (
    parity?.every(({ error, tolerance }) => error <= tolerance) === true &&
    judged(pytorch?.errors ?? []).every((each) => worse(each) <= MOST_ERROR)
  );
}

/** The errors that have a target. */
export function judged(errors: readonly NetworkError[]): readonly NetworkError[] {
  return errors.filter(({ network }) => !OPTIONAL.includes(network));
}

function step({ networks }: GpuReport, references: number): number | undefined {
  return networks.transformer?.runs[references]?.median;
}

function overPyTorch(report: GpuReport, references: number): number | undefined {
  const ways =
    report.pytorch?.runs.filter((each) => each.network === "transformer" && each.references === references) ?? [];
  const ours = step(report, references);
  return ours === undefined || ways.length === 0 ? undefined : ours / Math.min(...ways.map(({ median }) => median));
}

function largestError({ pytorch }: GpuReport): number | undefined {
  const errors = judged(pytorch?.errors ?? []);
  return errors.length === 0 ? undefined : Math.max(...errors.map(worse));
}
