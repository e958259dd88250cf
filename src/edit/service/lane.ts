// The FIFO queue of one device. Many jobs run job by job if all weights fit into memory, so that first results come early; else stage by stage,
// so that every network is loaded once.
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import { deviceName } from "../../engine/providers.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import type { Emit } from "../../std/events.js";
import type { EditContext } from "./context.js";
import type { QueuedJob } from "./job.js";
import { chooseOrder, groupOf } from "./order.js";
import { tryKeeping } from "./run-stage.js";
import { openAhead } from "./sessions-ahead.js";
import { readAheadOf } from "./weights-ahead.js";

/** Temporary store for artifacts between the stages of many jobs. */
export type Scratch = ArtifactCache & AsyncDisposable;

/** Options of a lane. */
export interface LaneOptions {
  readonly context: EditContext;
  /** Jobs in progress at a time, in job-by-job order. */
  readonly concurrency: number;
  /** Bytes that weights may take at once; undefined if unknown. */
  readonly memory: () => Promise<number | undefined>;
  readonly openScratch: (signal: AbortSignal) => Promise<Scratch>;
}

/** One device and its queue. */
export class Lane {
  readonly #queue: QueuedJob[] = [];
  /** Jobs without an outcome, in the queue or not. */
  readonly #pending = new Set<QueuedJob>();
  #working: Promise<void> | undefined;
  /** Ends when the work of the last one in line does. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(readonly options: LaneOptions) {}

  /** Number of jobs that are queued or in progress. */
  get length(): number {
    return this.#pending.size;
  }

  add(jobs: readonly QueuedJob[]): void {
    this.#queue.push(...jobs);
    for (const job of jobs) {
      this.#pending.add(job);
      const end = () => void this.#pending.delete(job);
      job.outcome.then(end, end);
    }
    this.#working ??= this.#work();
  }

  /** Does some work when its turn comes, with no job in progress; jobs that are added later wait for it. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Waits for the jobs in progress. */
  async settled(): Promise<void> {
    await this.#working;
    await this.#turn;
  }

  async #work(): Promise<void> {
    // Jobs that are submitted in one turn of the event loop run together.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.alone(() => this.#workOnQueue());
    // In the same turn as the last look at the queue: a job that is added later starts anew.
    this.#working = undefined;
  }

  async #workOnQueue(): Promise<void> {
    const jobs = [...this.#queue];
    try {
      if (jobs.length === 1) await this.#alone(this.#queue.shift()!);
      else await this.#together(jobs);
    } catch (reason) {
      // Reached only if the whole service is stopped.
      for (const job of [...jobs, ...this.#queue.splice(0)]) job.abandon(reason);
    }
    for (const job of jobs) if (!this.#queue.includes(job)) job.abandon();
  }

  // While one stage computes, the weights of the next ones are read and their sessions opened.
  async #alone(job: QueuedJob): Promise<void> {
    if (job.isOver) return;
    const { context } = this.options;
    const stops: (() => Promise<void>)[] = [];
    job.open(context, undefined, (inner) => {
      const weights = readAheadOf(job.edit, inner);
      const sessions = openAhead(job.edit, weights.context);
      stops.push(sessions.stop, weights.stop);
      return sessions.context;
    });
    try {
      await job.runAll(placeOf(context));
    } finally {
      for (const stop of stops) await stop();
    }
  }

  async #together(jobs: readonly QueuedJob[]): Promise<void> {
    const { context: outer, memory, openScratch, concurrency } = this.options;
    await using scratch = await openScratch(outer.signal);
    const context = { ...outer, emit: withoutRepeats(outer.emit) };
    const shared = { ...context, cache: cacheOrScratch(scratch, context), scratch };
    const edits = jobs.map(({ edit }) => edit.resolved);
    const { isByStage, reason } = chooseOrder(edits, await memory());
    context.emit({ kind: "detail", text: reason });
    const release = context.engine.retain();
    try {
      if (isByStage) await this.#stageByStage(this.#queue.splice(0, jobs.length), shared, scratch);
      else await Promise.all(Array.from({ length: concurrency }, () => this.#jobByJob(shared, scratch)));
    } finally {
      await release();
    }
  }

  async #jobByJob(context: EditContext, scratch: Scratch): Promise<void> {
    const device = placeOf(context);
    for (let job = this.#queue.shift(); job; job = this.#queue.shift()) {
      job.open(context, scratch);
      try {
        await job.runAll(device);
        job.abandon();
      } catch (reason) {
        job.abandon(reason);
        throw reason;
      }
    }
  }

  async #stageByStage(jobs: readonly QueuedJob[], context: EditContext, scratch: Scratch): Promise<void> {
    const device = placeOf(context);
    for (const job of jobs) job.open(context, scratch);
    for (const stage of STAGES) {
      for (const group of groupsOf(stage, jobs)) {
        for (const job of group) {
          await job.runStage(stage, device);
          job.releaseArtifacts();
        }
        await context.engine.closeIdle();
      }
    }
  }
}

function placeOf({ place, engine }: EditContext): string {
  return place ?? deviceName(engine.device);
}

// Groups jobs that use the same sessions in a stage.
function groupsOf(stage: StageName, jobs: readonly QueuedJob[]): Iterable<readonly QueuedJob[]> {
  const groups = new Map<string, QueuedJob[]>();
  for (const job of jobs) {
    const name = groupOf(stage, job.edit.resolved);
    groups.set(name, [...(groups.get(name) ?? []), job]);
  }
  return groups.values();
}

// Stores artifacts between stages: in the cache, or in the scratch if the cache cannot store them.
function cacheOrScratch(scratch: Scratch, { cache, emit }: EditContext): ArtifactCache {
  return {
    folder: scratch.folder,
    find: async (key, kind) => (await cache?.find(key, kind)) ?? scratch.find(key, kind),
    keep: async (key, artifact) =>
      (cache !== undefined && (await tryKeeping(cache, { key, artifact, emit }))) || scratch.keep(key, artifact),
  };
}

// Emits equal messages of many jobs once.
function withoutRepeats(emit: Emit): Emit {
  const emitted = new Set<string>();
  return (event) => {
    const text =
      event.kind === "plan"
        ? event.lines.join("\n")
        : "text" in event && event.kind !== "activity"
          ? `${event.kind} ${event.text}`
          : undefined;
    if (text !== undefined && emitted.has(text)) return;
    if (text !== undefined) emitted.add(text);
    emit(event);
  };
}
