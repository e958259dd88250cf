// What run, each and batch have in common when they make several pictures: a record of every job, and how the whole ended.
import { resolve } from "node:path";
import type { PipelineContext } from "../../edit/context.js";
import { driftRecord } from "../../edit/drift-text.js";
import { describe, type EditJob, editAll, type Outcome } from "../../edit/edit-all.js";
import type { FinishedPicture } from "../../edit/finish.js";
import { number } from "../../stages/option.js";
import { QeditError } from "../../std/errors.js";
import { editSource, finishEdit, type PlannedEdit, type Witness } from "./edit-job.js";

/** How many failures are borne. */
export const maxFailures = number(
  {
    flags: "--max-failures <count>",
    summary: "stop after so many failures, the rest is not run",
    group: "Output",
    isPerCall: true,
  },
  { minimum: 1, whole: true, initial: undefined },
);

/** A planned edit among others. */
export interface PlannedJob extends PlannedEdit {
  readonly name: string;
  /** Its place in the whole list, from 1. */
  readonly index: number;
}

/** A job for the pipeline that knows what it was planned as. */
export type ManyJob = EditJob & { readonly planned: PlannedJob; readonly drift: () => object | null };

/** How a job ended, as result lines say it. */
export interface JobEnd {
  readonly status: "done" | "failed" | "skipped";
  /** Why it was skipped. */
  readonly reason?: string;
  readonly seconds?: number;
  /** How far the picture zoomed and shifted; null when that cannot be told. */
  readonly drift?: object | null;
  readonly error?: { readonly code: string; readonly message: string; readonly hint: string | undefined };
}

/** Counts of ends. */
export type Tally = Record<JobEnd["status"], number>;

/** A job for the pipeline. */
export function manyJob(planned: PlannedJob, witness: Witness): ManyJob {
  let drift: object | null = null;
  const finish = (picture: FinishedPicture) => {
    drift = driftRecord(picture.drift);
    return finishEdit(picture, planned, witness);
  };
  return { ...editSource(planned), name: planned.name, index: planned.index, planned, finish, drift: () => drift };
}

/** Edits all jobs; `told` gets each with its end. */
export async function editMany(
  jobs: readonly ManyJob[],
  {
    total,
    maxFailures: most,
    told,
  }: { total: number; maxFailures: number | undefined; told: (job: PlannedJob, end: JobEnd) => Promise<void> },
  context: PipelineContext,
): Promise<void> {
  await editAll(
    jobs,
    {
      total,
      maxFailures: most,
      told: ({ planned, drift }, outcome) =>
        told(planned, outcome.state === "done" ? { ...endOf(outcome), drift: drift() } : endOf(outcome)),
    },
    context,
  );
}

/** A failure as a job's end. */
export function failed(error: unknown, seconds?: number): JobEnd {
  return { status: "failed", ...(seconds === undefined ? {} : { seconds: rounded(seconds) }), error: describe(error) };
}

/** Throws QEDIT_E_PARTIAL when any job failed. */
export function refuseFailures({ done, failed: count, skipped }: Tally, hint: string): void {
  if (count === 0) return;
  const total = done + count + skipped;
  throw new QeditError("QEDIT_E_PARTIAL", `${count} of ${total} ${total === 1 ? "job" : "jobs"} failed`, { hint });
}

/** Throws QEDIT_E_USAGE when two jobs would write the same file. */
export function refuseSameOutput(
  jobs: readonly { readonly path: string; readonly where: string }[],
  hint: string,
): void {
  const taken = new Map<string, string>();
  for (const { path, where } of jobs) {
    const before = taken.get(resolve(path));
    if (before !== undefined)
      throw new QeditError("QEDIT_E_USAGE", `Cannot write ${path} twice: ${before} and ${where} both make it`, {
        hint,
      });
    taken.set(resolve(path), where);
  }
}

function endOf(outcome: Outcome): JobEnd {
  if (outcome.state === "done") return { status: "done", seconds: rounded(outcome.seconds) };
  if (outcome.state === "failed") return failed(outcome.error, outcome.seconds);
  return { status: "skipped", reason: "not run" };
}

function rounded(seconds: number): number {
  return Number(seconds.toFixed(3));
}
