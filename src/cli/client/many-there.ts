// Many edits that a server makes: sent in order as long as its queue takes them, and followed side by side.
import { setTimeout as delay } from "node:timers/promises";
import { failureOf, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { failed, type JobEnd } from "../jobs/many.js";
import { type EditThere, finishEdit, sendEdit, type ThereOptions } from "./edit-there.js";
import { ServerLost } from "./http-call.js";
import type { JobAnswer, ResultAnswer } from "./server-answers.js";

/** An edit in a list. */
export interface JobThere extends EditThere {
  readonly name: string;
  /** Its number in the whole list, from 1. */
  readonly index: number;
}

/** Options of editManyThere. */
interface ManyThere extends ThereOptions {
  /** Length of the whole list. */
  readonly total: number;
  readonly maxFailures: number | undefined;
  /** Whether what the server refuses of the first edit holds for all of them. */
  readonly isFirstForAll: boolean;
  /** Called for each edit when it ends. */
  readonly onEnd: (job: JobThere, end: JobEnd) => Promise<void>;
}

/** What all edits took together. */
export interface ManyTotals {
  readonly device: string;
  /** By stage. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Jobs that wait or run there for one call: enough to plan their stages together, and few enough to leave room for others. */
const MOST_OPEN = 32;
/** Milliseconds until a full queue is asked again. */
const RETRY_AFTER = 5_000;

/** Makes all edits. Throws when the server is lost, and the reason when the signal is aborted; then their jobs are cancelled. */
export async function editManyThere(jobs: readonly JobThere[], options: ManyThere): Promise<ManyTotals> {
  const { signal: outer, maxFailures = Number.POSITIVE_INFINITY, onEnd, client } = options;
  const lost = new AbortController();
  const signal = AbortSignal.any([outer, lost.signal]);
  const open = new Map<string, { readonly work: Promise<void>; state: JobAnswer["state"] }>();
  const dropped = new Set<string>();
  const seconds: Record<string, number> = {};
  let device = "";
  let failures = 0;
  const isOver = () => failures >= maxFailures;
  const fail = async (job: JobThere, error: unknown, took?: number) => {
    failures += 1;
    options.terminal.emit({ ...labelOf(job, options), state: "failed", error: failureOf(error) });
    await onEnd(job, failed(error, took));
    if (!isOver()) return;
    // What waits is not begun.
    for (const [id, { state }] of open) if (state === "queued") dropped.add(id);
    await Promise.all([...dropped].map((id) => client.cancel(id).catch(() => {})));
  };
  const follow = async (job: JobThere, sent: JobAnswer) => {
    const { emit } = options.terminal;
    const start = performance.now();
    try {
      const onState = ({ state }: JobAnswer) => {
        const known = open.get(sent.id);
        if (state === "running" && known?.state === "queued") emit({ ...labelOf(job, options), state: "started" });
        if (known) known.state = state;
      };
      const { result } = await finishEdit(job, sent, { ...options, signal, emit: labelled(job, emit), onState });
      device = result.device;
      for (const [stage, count] of Object.entries(result.seconds))
        seconds[stage] = Number(((seconds[stage] ?? 0) + count).toFixed(3));
      emit({ ...labelOf(job, options), state: "done" });
      await onEnd(job, { status: "done", seconds: secondsOf(result), drift: result.drift });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ServerLost) lost.abort(error);
      else if (dropped.has(sent.id)) await onEnd(job, { status: "skipped", reason: "not run" });
      else await fail(job, error, (performance.now() - start) / 1000);
    }
  };
  for (const [index, job] of jobs.entries()) {
    while (open.size >= MOST_OPEN) await someEnded(open);
    if (signal.aborted) break;
    if (isOver()) {
      await onEnd(job, { status: "skipped", reason: "not run" });
      continue;
    }
    try {
      const sent = await sentWhenFree(job, open, { ...options, signal });
      const work = follow(job, sent)
        .catch((error: unknown) => lost.abort(error))
        .finally(() => open.delete(sent.id));
      open.set(sent.id, { work, state: "queued" });
    } catch (error) {
      if (signal.aborted) break;
      if (error instanceof ServerLost || (index === 0 && options.isFirstForAll)) lost.abort(error);
      else await fail(job, error);
    }
  }
  await Promise.all([...open.values()].map(({ work }) => work));
  signal.throwIfAborted();
  return { device, seconds };
}

type Open = ReadonlyMap<string, { readonly work: Promise<void> }>;

// A full queue is asked again when one of ours has ended, or after a while.
async function sentWhenFree(job: JobThere, open: Open, options: ManyThere): Promise<JobAnswer> {
  for (let isFirst = true; ; isFirst = false) {
    try {
      return await sendEdit(job, options);
    } catch (error) {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_BUSY")) throw error;
      if (open.size > 0) await someEnded(open);
      else {
        if (isFirst) options.terminal.emit({ kind: "note", text: "the server's queue is full: waiting" });
        await delay(RETRY_AFTER, undefined, { signal: options.signal }).catch(() => {});
      }
      options.signal.throwIfAborted();
    }
  }
}

async function someEnded(open: Open): Promise<void> {
  await Promise.race([...open.values()].map(({ work }) => work));
}

function labelOf({ name, index }: JobThere, { total }: ManyThere) {
  return { kind: "job", job: name, index, total } as const;
}

// As the edit service labels them.
function labelled({ name }: JobThere, emit: Emit): Emit {
  return (event) => emit(event.kind === "drift" ? { ...event, text: `${name}: ${event.text}` } : event);
}

function secondsOf({ seconds }: ResultAnswer): number {
  return Number(
    Object.values(seconds)
      .reduce((sum, each) => sum + each, 0)
      .toFixed(3),
  );
}
