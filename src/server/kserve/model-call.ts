// A call of a model, what it gives, and how it is followed where it is one of the server's jobs.
import type { InferRequest } from "../../kserve/infer-request.js";
import type { V2Tensor } from "../../kserve/v2-tensor.js";
import type { StageName } from "../../stages/stage.js";
import type { ProgressEvent } from "../../std/events.js";
import type { EditServer } from "../edit-server.js";
import type { JobResult } from "../job-types.js";
import type { ServerJob } from "../server-job.js";
import type { RequestClock } from "./model-statistics.js";

/** One call of a model. */
export interface ModelCall {
  readonly server: EditServer;
  readonly request: InferRequest;
  readonly emit: (event: ProgressEvent) => void;
  /** Its reason is what the call is refused with. */
  readonly signal: AbortSignal;
  readonly clock: RequestClock;
  /** Does the work of a stage when its turn comes among the jobs. */
  readonly inTurn: <T>(stage: StageName, work: () => Promise<T>) => Promise<T>;
}

/** The outputs of a model, and what else its answer says. */
export interface ModelResult {
  readonly outputs: readonly V2Tensor[];
  readonly parameters?: Readonly<Record<string, unknown>>;
}

/** The result of a job that was submitted for a request. Throws what the job failed with; the job is cancelled when the request is. */
export async function followed(job: ServerJob, { emit, signal, clock }: ModelCall): Promise<JobResult> {
  const cancel = () => void job.cancel();
  const stop = job.subscribe((event) => {
    if (event.kind === "state" && event.job.state === "running") clock.phase("compute_infer");
    if (event.kind === "progress") emit(event.event);
  });
  signal.addEventListener("abort", cancel, { once: true });
  try {
    if (signal.aborted) await job.cancel();
    return await job.outcome;
  } finally {
    stop();
    signal.removeEventListener("abort", cancel);
  }
}
