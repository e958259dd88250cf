// One edit in a service's queue: its submission, its progress through the stages, and its outcome.
import { randomUUID } from "node:crypto";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { failureOf, QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { isTensorEdit, openTensorEdit } from "../tensors/open-tensor-edit.js";
import type { EditContext } from "./context.js";
import { type OpenEdit, openEdit, type SubmittedEdit } from "./open-edit.js";

/** How a job ended; `seconds`: time spent on it, `device`: where it was computed. */
export type Outcome =
  | { readonly state: "done"; readonly seconds: number; readonly device: string }
  | { readonly state: "failed"; readonly seconds: number; readonly error: unknown }
  | { readonly state: "not run" };

/** A submitted edit. */
export interface Job {
  readonly id: string;
  /** Resolves when the job is over. Rejects only if the whole service is stopped, with the reason. */
  readonly outcome: Promise<Outcome>;
  /** Stops it between two steps; its outcome is then QEDIT_E_INTERRUPTED. */
  readonly cancel: () => void;
}

/** Name and position of a job in events. */
export interface JobLabel {
  readonly name: string;
  /** Its place in the whole list, from 1. */
  readonly index: number;
  /** Length of the whole list. */
  readonly total: number;
}

/** Jobs that were submitted together. */
export interface JobGroup {
  /** After this many failures the other jobs are not run. */
  readonly maxFailures: number;
  failures: number;
}

/** An event with the id of its job. */
export type ServiceEvent = ProgressEvent & { readonly id?: string };

/** What a job is queued with. */
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
    // The submitter may not await it: prevents an unhandled rejection.
    this.outcome.catch(() => {});
  }

  readonly cancel = () => {
    const error = new QeditError("QEDIT_E_INTERRUPTED", "Cancelled");
    this.#cancelling.abort(error);
    // One that waits is over at once.
    if (this.#opened === undefined && !this.#isOver) this.#end({ state: "failed", seconds: 0, error });
  };

  /** Whether there is nothing left to do: it ended, or too many jobs of its group failed. */
  get isOver(): boolean {
    const { failures, maxFailures } = this.#parts.group;
    return this.#isOver || failures >= maxFailures;
  }

  /** Opens the edit. `scratch` stores artifacts that are not kept after the work is done. */
  open(
    outer: EditContext,
    scratch: ArtifactCache | undefined,
    wrap: (context: EditContext) => EditContext = (c) => c,
  ): void {
    const { label } = this.#parts;
    const emit = (event: ProgressEvent) => {
      const text = event.kind === "drift" && label ? { text: `${label.name}: ${event.text}` } : {};
      outer.emit({ ...event, ...text, id: this.id } as ServiceEvent);
    };
    const signal = AbortSignal.any([outer.signal, this.#cancelling.signal]);
    this.#context = outer;
    const { edit } = this;
    const context = wrap({ ...outer, emit, signal });
    this.#opened = isTensorEdit(edit) ? openTensorEdit(edit, context, scratch) : openEdit(edit, context, scratch);
  }

  /** Runs all stages. */
  async runAll(device: string): Promise<void> {
    for (const stage of STAGES) await this.runStage(stage, device);
  }

  /** Runs one stage, unless the job is over. Throws only if the whole service is stopped. */
  async runStage(stage: StageName, device: string): Promise<void> {
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

  /** Releases the artifacts in memory; those in the cache can be read again. */
  releaseArtifacts(): void {
    this.#opened?.releaseArtifacts();
  }

  /** Ends the job early. Without a reason its outcome is "not run"; with one (the service was stopped) it rejects. */
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
    this.#context?.emit(error === undefined ? event : { ...event, error: failureOf(error) });
  }
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
