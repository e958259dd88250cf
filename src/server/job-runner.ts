// Runs accepted jobs on the edit service: follows them by its events, stores their pictures and ends, and stops in order.
import type { FinishedPicture } from "../edit/finish/finish.js";
import type { Job, ServiceEvent } from "../edit/service/job.js";
import { deviceNames, type EditService } from "../edit/service/service.js";
import { failureOf, QeditError } from "../std/errors.js";
import type { JobEdit } from "./job-edits.js";
import type { JobStore } from "./job-store.js";
import { isFinal } from "./job-types.js";
import type { ServerEvent } from "./server-event.js";
import type { ServerJob } from "./server-job.js";

/** A job whose edit is resolved, and what its work needs. */
export interface AcceptedJob extends JobEdit {
  readonly job: ServerJob;
  readonly hasPreviews: boolean;
}

/** What jobs are run with. */
export interface RunnerOptions {
  readonly service: () => EditService;
  readonly store: JobStore;
  readonly observe: (event: ServerEvent) => void;
  /** Called when the work on a job begins. */
  readonly onStart: (job: ServerJob) => void;
  /** Called when a job is not worked on any more. */
  readonly onLeave: (job: ServerJob) => void;
}

/** A job of ours while the service has it. */
interface Computation {
  readonly job: Job;
  /** By stage. */
  readonly seconds: Record<string, number>;
}

/** Runs jobs. */
export class JobRunner {
  /** Jobs without an end, in the order of their acceptance. */
  readonly #open = new Set<ServerJob>();
  /** Our jobs by the ids of the service's. */
  readonly #computed = new Map<string, ServerJob>();
  readonly #computing = new Map<ServerJob, Computation>();
  /** Jobs whose end is being stored: nothing changes it any more. */
  readonly #storing = new Set<ServerJob>();
  /** Jobs that are left undone when the server ends. */
  readonly #stopped = new Set<ServerJob>();
  readonly #ending = new Set<Promise<void>>();
  #waitingBytes = 0;

  constructor(private readonly options: RunnerOptions) {}

  /** Jobs that are queued or running. */
  get size(): number {
    return this.#open.size;
  }

  /** Bytes of pictures that wait in memory. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Jobs that wait, and that run. */
  load(): { readonly queued: number; readonly running: number } {
    const queued = this.#queued().length;
    return { queued, running: this.#open.size - queued };
  }

  /** The place of a job in the queue, from 1; 0 if it does not wait. */
  position(job: ServerJob): number {
    return this.#queued().indexOf(job) + 1;
  }

  /** Queues an accepted job; `waiting`: bytes of its pictures in memory. */
  start({ job, edit, seed, resultOf, release, hasPreviews }: AcceptedJob, waiting: number): void {
    job.seed = seed;
    this.#open.add(job);
    this.options.observe({ kind: "accepted", job });
    // One that runs at once needs no second decoding.
    if (this.#open.size > 1) release();
    const seconds: Record<string, number> = {};
    const computed = this.options.service().submit({
      ...edit,
      ...(hasPreviews && { onPreview: (image) => job.hasListeners && job.preview(image) }),
      onPicture: (picture) => this.#keepPicture(job, picture, { seed, resultOf, seconds }),
    });
    this.#computed.set(computed.id, job);
    this.#computing.set(job, { job: computed, seconds });
    this.#waitingBytes += waiting;
    const ended = computed.outcome
      .then(
        (outcome) => {
          if (outcome.state === "failed") return this.fail(job, outcome.error);
          if (outcome.state === "not run") return this.fail(job, new Error("internal: the job was not run"));
          return undefined;
        },
        (error: unknown) => this.fail(job, error),
      )
      .catch((error: Error) => this.options.observe({ kind: "warning", text: `${job.id}: ${error.message}` }))
      .finally(() => {
        release();
        this.#waitingBytes -= waiting;
        this.#computed.delete(computed.id);
        this.#computing.delete(job);
        this.#ending.delete(ended);
        this.#leave(job);
      });
    this.#ending.add(ended);
  }

  /** Ends a job with an error. */
  async fail(job: ServerJob, error: unknown): Promise<void> {
    if (!this.#stopped.has(job)) return this.#endWithout(job, { state: "failed", error });
    // A stored job is done after the next start.
    if (job.isDurable) job.suspend();
    else await this.#endWithout(job, { state: "failed", error: serverStopping() });
  }

  /** Stops a job between two steps, and ends it as cancelled. */
  async cancel(job: ServerJob): Promise<void> {
    this.#computing.get(job)?.job.cancel();
    const error = new QeditError("QEDIT_E_INTERRUPTED", "Cancelled");
    await this.#endWithout(job, { state: "cancelled", error });
    this.#open.delete(job);
    this.#announceQueue();
  }

  /** Takes an event of the service. */
  onEvent(event: ServiceEvent): void {
    const job = event.id === undefined ? undefined : this.#computed.get(event.id);
    if (job?.state === "queued") {
      job.start();
      this.options.onStart(job);
      this.options.observe({ kind: "started", job, computation: event.id });
      this.#announceQueue();
    }
    if (job !== undefined) {
      const seconds = this.#computing.get(job)?.seconds;
      if (event.kind === "end" && seconds) seconds[event.stage] = Number(event.seconds.toFixed(3));
      const { id: _, ...own } = event;
      job.progress(own as typeof event);
    }
    this.options.observe({ kind: "service", event });
  }

  /** Stops what waits, and what runs after `grace` milliseconds; durable jobs stay stored. */
  async drain(grace: number): Promise<void> {
    for (const job of this.#queued()) this.#stop(job);
    const late = setTimeout(() => {
      for (const job of [...this.#open]) this.#stop(job);
    }, grace);
    await Promise.allSettled([...this.#computing.values()].map(({ job }) => job.outcome));
    clearTimeout(late);
    await this.settled();
  }

  /** Waits until the ends of all jobs are stored. */
  async settled(): Promise<void> {
    while (this.#ending.size > 0) await Promise.allSettled([...this.#ending]);
  }

  // Encodes and stores the picture; the job is complete only when it is stored.
  async #keepPicture(
    job: ServerJob,
    picture: FinishedPicture,
    { seed, resultOf, seconds }: Pick<JobEdit, "seed" | "resultOf"> & { seconds: Readonly<Record<string, number>> },
  ): Promise<void> {
    const device = deviceNames(this.options.service());
    const { bytes, result } = await resultOf(picture, { seed, device, seconds });
    if (isFinal(job.state) || this.#storing.has(job)) return;
    const end = job.ending({ state: "completed", result });
    this.#storing.add(job);
    try {
      if (job.isDurable) await this.options.store.end(job.id, end, bytes);
    } finally {
      this.#storing.delete(job);
    }
    job.complete(end, job.isDurable ? () => this.options.store.result(result.sha256) : async () => bytes);
    this.options.observe({ kind: "ended", job });
  }

  // Ends a job that has no picture: stored first, for what was reported must hold after a crash.
  async #endWithout(
    job: ServerJob,
    { state, error }: { state: "failed" | "cancelled"; error: unknown },
  ): Promise<void> {
    if (isFinal(job.state) || this.#storing.has(job)) return;
    const end = job.ending({ state, error: failureOf(error) });
    this.#storing.add(job);
    try {
      if (job.isDurable) await this.options.store.end(job.id, end);
    } catch (failure) {
      this.options.observe({ kind: "warning", text: `${job.id}: ${(failure as Error).message}` });
    } finally {
      this.#storing.delete(job);
      job.fail(error, state, end);
      this.options.observe({ kind: "ended", job, error });
    }
  }

  // Stops a job that the ending server does not do.
  #stop(job: ServerJob): void {
    this.#stopped.add(job);
    this.#computing.get(job)?.job.cancel();
  }

  #leave(job: ServerJob): void {
    this.#open.delete(job);
    this.options.onLeave(job);
    this.#announceQueue();
  }

  #announceQueue(): void {
    for (const job of this.#open) if (job.state === "queued") job.announce();
  }

  #queued(): readonly ServerJob[] {
    return [...this.#open].filter(({ state }) => state === "queued");
  }
}

/** The refusal of a server that ends. */
export function serverStopping(): QeditError {
  return new QeditError("QEDIT_E_TERMINATED", "The server is stopping", { hint: "Send it again later" });
}
