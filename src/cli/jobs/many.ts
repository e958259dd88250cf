// Runs many jobs for run, each and batch: reports the end of each job, and fails if any failed.
import { resolve } from "node:path";
import { driftRecord } from "../../edit/finish/drift-text.js";
import type { Outcome } from "../../edit/service/job.js";
import type { EditService } from "../../edit/service/service.js";
import { type Failure, failureOf, QeditError } from "../../std/errors.js";
import { type PlannedEdit, submitted, type WriteObserver } from "./edit-job.js";

/** A planned edit in a list. */
export interface PlannedJob extends PlannedEdit {
  readonly name: string;
  /** Its number in the whole list, from 1. */
  readonly index: number;
}

/** A planned edit and its callbacks. */
export interface ObservedJob {
  readonly planned: PlannedJob;
  readonly observer: WriteObserver;
}

/** How a job ended; the fields are those of result lines. */
export interface JobEnd {
  readonly status: "done" | "failed" | "skipped";
  /** Why it was skipped. */
  readonly reason?: string;
  readonly seconds?: number;
  /** Zoom and shift of the picture; null if they could not be measured. */
  readonly drift?: object | null;
  readonly error?: Failure;
}

/** Number of jobs by status. */
export type Tally = Record<JobEnd["status"], number>;

/** Options of editMany. */
interface ManyEdits {
  /** Length of the whole list. */
  readonly total: number;
  readonly maxFailures: number | undefined;
  /** Called for each job when it ends. */
  readonly onEnd: (job: PlannedJob, end: JobEnd) => Promise<void>;
}

/** Runs all jobs. Throws the reason if the service is stopped. */
export async function editMany(
  jobs: readonly ObservedJob[],
  { total, maxFailures: most, onEnd }: ManyEdits,
  service: EditService,
): Promise<void> {
  const drifts = new Map<PlannedJob, object | null>();
  const edits = jobs.map(({ planned, observer }) =>
    submitted(planned, {
      ...observer,
      async written(picture) {
        drifts.set(planned, driftRecord(picture.drift));
        await observer.written?.(picture);
      },
    }),
  );
  const labels = jobs.map(({ planned: { name, index } }) => ({ name, index, total }));
  const submittedJobs = service.submitAll(edits, { labels, maxFailures: most });
  await Promise.all(
    submittedJobs.map(async ({ outcome }, index) => {
      const { planned } = jobs[index]!;
      const end = endOf(await outcome);
      await onEnd(planned, end.status === "done" ? { ...end, drift: drifts.get(planned) ?? null } : end);
    }),
  );
}

/** A failure as a job's end. */
export function failed(error: unknown, seconds?: number): JobEnd {
  return { status: "failed", ...(seconds === undefined ? {} : { seconds: rounded(seconds) }), error: failureOf(error) };
}

/** Throws QEDIT_E_PARTIAL if any job failed. */
export function refuseFailures({ done, failed: count, skipped }: Tally, hint: string): void {
  if (count === 0) return;
  const total = done + count + skipped;
  throw new QeditError("QEDIT_E_PARTIAL", `${count} of ${total} ${total === 1 ? "job" : "jobs"} failed`, { hint });
}

/** Throws QEDIT_E_USAGE if two jobs would write the same file. */
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
