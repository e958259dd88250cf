// Many edits with one load of each network. A job that fails leaves the others alone.
import { rmSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArtifactCache, openCache } from "../artifacts/artifact-cache.js";
import { QeditError } from "../std/errors.js";
import type { Emit } from "../std/events.js";
import type { PipelineContext } from "./context.js";
import { type EditSource, type OpenEdit, openEdit } from "./edit.js";
import type { FinishedPicture } from "./finish.js";
import { chooseOrder, groupOf, TURNS, type Turn } from "./order.js";
import { tryKeeping } from "./run-stage.js";

const WORK_FOLDER = "qedit-batch-";
/** Nothing was put into the folder for so long: no edit takes two days. */
const ABANDONED_AFTER = 2 * 24 * 3600_000;

/** One edit of many. */
export interface EditJob extends EditSource {
  readonly name: string;
  /** Its place in the whole list, from 1. */
  readonly index: number;
  /** Takes the picture; what it throws is the job's failure. */
  readonly finish: (picture: FinishedPicture) => Promise<void>;
}

/** How a job ended; `seconds` are those spent on it. */
export type Outcome =
  | { readonly state: "done"; readonly seconds: number }
  | { readonly state: "failed"; readonly seconds: number; readonly error: unknown }
  | { readonly state: "not run" };

/** What becomes of jobs. */
export interface Editing<Job extends EditJob> {
  /** Length of the whole list. */
  readonly total: number;
  /** After so many failures the rest is not run. */
  readonly maxFailures: number | undefined;
  /** Called once for every job, when its outcome is known. */
  readonly told: (job: Job, outcome: Outcome) => Promise<void>;
}

interface State<Job> {
  readonly job: Job;
  readonly opened: OpenEdit;
  seconds: number;
  isOver: boolean;
}

/** Edits all jobs, stage by stage or job by job, whichever the memory allows. Throws the reason of an abort. */
export async function editAll<Job extends EditJob>(
  jobs: readonly Job[],
  editing: Editing<Job>,
  outer: PipelineContext,
): Promise<void> {
  if (jobs.length === 0) return;
  await using work = await workFolder(outer.signal);
  const context = { ...outer, emit: onceEach(outer.emit) };
  const batch = new Batch(editing, context);
  const within = { ...context, emit: batch.emit, cache: handedOn(work.cache, context) };
  const states = jobs.map(
    (job): State<Job> => ({ job, opened: openEdit(job, within, work.cache), seconds: 0, isOver: false }),
  );
  const { isByStage, reason } = await chooseOrder(
    jobs.map(({ settings }) => settings),
    jobs.length > 1 ? await context.memory() : undefined,
  );
  context.emit({ kind: "detail", text: reason });
  try {
    if (jobs.length > 1) context.engine.hold();
    if (isByStage) await stageByStage(states, batch, context);
    else for (const state of states) for (const turn of TURNS) await batch.take(state, turn);
  } finally {
    await context.engine.release();
  }
  for (const { job, isOver } of states) if (!isOver) await editing.told(job, { state: "not run" });
}

async function stageByStage<Job extends EditJob>(
  states: readonly State<Job>[],
  batch: Batch<Job>,
  { engine }: PipelineContext,
): Promise<void> {
  for (const turn of TURNS) {
    for (const group of grouped(states, ({ job }) => groupOf(turn, job.settings))) {
      for (const state of group) {
        await batch.take(state, turn);
        state.opened.rest();
      }
      await engine.release();
      if (states.length > 1) engine.hold();
    }
  }
}

function grouped<T>(all: readonly T[], nameOf: (each: T) => string): Iterable<readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const each of all) groups.set(nameOf(each), [...(groups.get(nameOf(each)) ?? []), each]);
  return groups.values();
}

class Batch<Job extends EditJob> {
  private failures = 0;
  private current = "";

  constructor(
    private readonly editing: Editing<Job>,
    private readonly context: PipelineContext,
  ) {}

  /** Emits what a job tells, with its name where it speaks of the job alone. */
  readonly emit: Emit = (event) =>
    this.context.emit(event.kind === "drift" ? { ...event, text: `${this.current}: ${event.text}` } : event);

  /** Takes a job through one stage, unless it is over or the batch has stopped. */
  async take(state: State<Job>, turn: Turn): Promise<void> {
    const { job, opened } = state;
    const { maxFailures = Infinity, told, total } = this.editing;
    if (state.isOver || this.failures >= maxFailures) return;
    const { emit, signal } = this.context;
    signal.throwIfAborted();
    const event = { kind: "job", job: job.name, index: job.index, total } as const;
    this.current = job.name;
    emit({ ...event, state: "started" });
    const start = performance.now();
    try {
      await WORK[turn](opened, job);
      state.seconds += secondsSince(start);
      if (turn !== "decode") return;
      end(state);
      emit({ ...event, state: "done" });
      await told(job, { state: "done", seconds: state.seconds });
    } catch (error) {
      signal.throwIfAborted();
      if (state.isOver) throw error;
      state.seconds += secondsSince(start);
      this.failures += 1;
      end(state);
      emit({ ...event, state: "failed", error: describe(error) });
      await told(job, { state: "failed", error, seconds: state.seconds });
    }
  }
}

const WORK: Readonly<Record<Turn, (opened: OpenEdit, job: EditJob) => Promise<unknown>>> = {
  "encode-image": async (opened) => {
    await opened.check();
    await opened.latents();
  },
  "encode-prompt": (opened) => opened.cond(),
  sample: (opened) => opened.samples(),
  decode: async (opened, job) => job.finish(await opened.picture()),
};

function end<Job>(state: State<Job>): void {
  state.isOver = true;
  state.opened.rest();
}

/** A failure as events and result lines carry it. */
export function describe(error: unknown): { code: string; message: string; hint: string | undefined } {
  if (error instanceof QeditError) return { code: error.code, message: error.message, hint: error.hint };
  return { code: "QEDIT_E_INTERNAL", message: error instanceof Error ? error.message : String(error), hint: undefined };
}

// Where artifacts wait between stages: the cache, or a folder for this batch alone where the cache cannot take them.
function handedOn(passing: ArtifactCache, { cache, emit }: PipelineContext): ArtifactCache {
  return {
    folder: passing.folder,
    find: async (key, kind) => (await cache?.find(key, kind)) ?? passing.find(key, kind),
    keep: async (key, artifact) =>
      (cache !== undefined && (await tryKeeping(cache, { key, artifact, emit }))) || passing.keep(key, artifact),
  };
}

async function workFolder(signal: AbortSignal): Promise<{ readonly cache: ArtifactCache } & AsyncDisposable> {
  await removeAbandoned();
  const folder = await mkdtemp(join(tmpdir(), WORK_FOLDER));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  // A stop may end the process before it comes to its end.
  signal.addEventListener("abort", remove, { once: true });
  return {
    cache: openCache(folder, Infinity),
    async [Symbol.asyncDispose]() {
      signal.removeEventListener("abort", remove);
      remove();
    },
  };
}

// Folders of batches that were killed.
async function removeAbandoned(): Promise<void> {
  for (const name of (await readdir(tmpdir()).catch(() => [])).filter((each) => each.startsWith(WORK_FOLDER))) {
    const path = join(tmpdir(), name);
    const found = await stat(path).catch(() => undefined);
    // Other users' stay: they are not ours to remove.
    if (found && Date.now() - found.mtimeMs > ABANDONED_AFTER)
      await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

// What holds for many jobs is said once.
function onceEach(emit: Emit): Emit {
  const said = new Set<string>();
  return (event) => {
    const text =
      event.kind === "plan"
        ? event.lines.join("\n")
        : "text" in event && event.kind !== "activity"
          ? `${event.kind} ${event.text}`
          : undefined;
    if (text !== undefined && said.has(text)) return;
    if (text !== undefined) said.add(text);
    emit(event);
  };
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
