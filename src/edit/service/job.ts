// One edit in the queue of a service: what it was submitted with, what became of it, and its way through the stages.
import { randomUUID } from "node:crypto";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { failureOf, QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import type { EditContext } from "./context.js";
import { type OpenEdit, openEdit, type SubmittedEdit } from "./open-edit.js";

/** How a job ended; `seconds` are those spent on it, `device` is where. */
export type Outcome =
  | { readonly state: "done"; readonly seconds: number; readonly device: string }
  | { readonly state: "failed"; readonly seconds: number; readonly error: unknown }
  | { readonly state: "not run" };

/** A submitted edit. */
export interface Job {
  readonly id: string;
  /** Settles when it is over; rejects only when the whole service is stopped, with the reason. */
  readonly outcome: Promise<Outcome>;
  /** Stops it between two steps; its outcome is then a failure, QEDIT_E_INTERRUPTED. */
  readonly cancel: () => void;
}

/** How a job of many is called in events. */
export interface JobLabel {
  readonly name: string;
  /** Its place in the whole list, from 1. */
  readonly index: number;
  /** Length of the whole list. */
  readonly total: number;
}

/** Jobs that were submitted together. */
export interface JobGroup {
  /** After so many failures the rest is not run. */
  readonly maxFailures: number;
  failures: number;
}

/** An event, with the id of the job that it is of. */
export type ServiceEvent = ProgressEvent & { readonly id?: string };

/** What a queued job is made of. */
interface Parts {
  readonly edit: SubmittedEdit;
  readonly label: JobLabel | undefined;
  readonly group: JobGroup;
}

/** A job as the service works on it. */
export class QueuedJob implements Job {
  readonly id = randomUUID();
  readonly outcome: Promise<Outcome>;
  readonly edit: SubmittedEdit;
  readonly #parts: Parts;
  readonly #cancelling = new AbortController();
  #settle: { resolve: (outcome: Outcome) => void; reject: (reason: unknown) => void } | undefined;
  #opened: OpenEdit | undefined;
  #context: EditContext | undefined;
  #seconds = 0;
  #isOver = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.edit = parts.edit;
    this.outcome = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // Whoever submitted it may have gone.
    this.outcome.catch(() => {});
  }

  readonly cancel = () => this.#cancelling.abort(new QeditError("QEDIT_E_INTERRUPTED", "Cancelled"));

  /** Whether nothing is left to do: it ended, or too many of its group failed. */
  get isOver(): boolean {
    const { failures, maxFailures } = this.#parts.group;
    return this.#isOver || failures >= maxFailures;
  }

  /** Gives it what it computes with. `passing` is where results go that are not worth keeping after the work is done. */
  open(
    outer: EditContext,
    passing: ArtifactCache | undefined,
    wrap: (context: EditContext) => EditContext = (c) => c,
  ): void {
    const { label } = this.#parts;
    const emit = (event: ProgressEvent) => {
      const text = event.kind === "drift" && label ? { text: `${label.name}: ${event.text}` } : {};
      outer.emit({ ...event, ...text, id: this.id } as ServiceEvent);
    };
    const signal = AbortSignal.any([outer.signal, this.#cancelling.signal]);
    this.#context = outer;
    this.#opened = openEdit(this.edit, wrap({ ...outer, emit, signal }), passing);
  }

  /** Takes it through all stages. */
  async runAll(device: string): Promise<void> {
    for (const stage of STAGES) await this.take(stage, device);
  }

  /** Takes it through one stage, unless it is over. Throws only when the whole service is stopped. */
  async take(stage: StageName, device: string): Promise<void> {
    if (this.isOver) return;
    const { signal } = this.#context!;
    signal.throwIfAborted();
    this.#emitState("started");
    const start = performance.now();
    try {
      await this.#stage(stage, this.#opened!);
      this.#seconds += secondsSince(start);
      if (stage === "decode") this.#end({ state: "done", seconds: this.#seconds, device });
    } catch (error) {
      signal.throwIfAborted();
      this.#seconds += secondsSince(start);
      this.#parts.group.failures += 1;
      this.#end({ state: "failed", seconds: this.#seconds, error });
    }
  }

  /** Forgets the artifacts in memory; those in the cache are found again. */
  releaseArtifacts(): void {
    this.#opened?.releaseArtifacts();
  }

  /** Ends it where it is: it is not run, or the service was stopped for a reason. */
  abandon(reason?: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.releaseArtifacts();
    if (reason === undefined) this.#settle!.resolve({ state: "not run" });
    else this.#settle!.reject(reason);
  }

  async #stage(stage: StageName, opened: OpenEdit): Promise<unknown> {
    this.#cancelling.signal.throwIfAborted();
    switch (stage) {
      case "encode-image":
        await opened.check();
        return opened.latents();
      case "encode-prompt":
        return opened.cond();
      case "sample":
        return opened.samples();
      case "decode":
        return opened.picture();
    }
  }

  #end(outcome: Extract<Outcome, { seconds: number }>): void {
    this.#isOver = true;
    this.releaseArtifacts();
    this.#emitState(outcome.state, outcome.state === "failed" ? outcome.error : undefined);
    this.#settle!.resolve(outcome);
  }

  #emitState(state: "started" | "done" | "failed", error?: unknown): void {
    const { label } = this.#parts;
    if (!label) return;
    const { name: job, index, total } = label;
    const event = { kind: "job", state, job, index, total, id: this.id } as const;
    this.#context!.emit(error === undefined ? event : { ...event, error: failureOf(error) });
  }
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
