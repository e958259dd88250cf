// One edit of the server: its state, its events for whoever listens, and its picture.
import { randomUUID } from "node:crypto";
import type { Image } from "../image/image.js";
import { failureOf, QeditError } from "../std/errors.js";
import type { ProgressEvent } from "../std/events.js";
import { isFinal, type JobEvent, type JobInput, type JobResult, type JobSnapshot, type JobState } from "./job-types.js";

/** Events that are kept for those who listen later: notes, warnings, stages. */
const KEPT_EVENTS = 300;

/** What a job is made with. */
export interface JobParts {
  readonly id?: string;
  readonly created?: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inputs: readonly JobInput[];
  readonly mask: JobInput | undefined;
  /** Whether it is in the state folder, and survives the process. */
  readonly isDurable: boolean;
  /** Milliseconds that the networks stay open after it; undefined: as the server keeps them. */
  readonly keepAlive?: number | undefined;
  /** The trace that its request belongs to, as W3C's header. */
  readonly traceparent?: string | undefined;
  /** Its place in the queue, from 1; 0 if it does not wait. */
  readonly position: (job: ServerJob) => number;
  /** Stops its work, stores that it was cancelled, and ends it. */
  readonly cancel: (job: ServerJob) => Promise<void>;
}

/** How a job ended, as it is stored. */
export interface JobEnd {
  readonly state: JobState;
  readonly started: string | undefined;
  readonly ended: string;
  readonly result?: JobResult | undefined;
  readonly error?: JobSnapshot["error"];
}

/** A job. */
export class ServerJob {
  readonly id: string;
  readonly created: string;
  readonly isDurable: boolean;
  /** Resolves when it has ended. Rejects with its error if it failed or was cancelled. */
  readonly outcome: Promise<JobResult>;
  #state: JobState = "queued";
  #started: string | undefined;
  #end: JobEnd | undefined;
  #stage: string | undefined;
  #step: Extract<ProgressEvent, { kind: "step" }> | undefined;
  #content: (() => Promise<Uint8Array>) | undefined;
  #settle!: { resolve: (result: JobResult) => void; reject: (error: unknown) => void };
  readonly #events: ProgressEvent[] = [];
  readonly #listeners = new Set<(event: JobEvent) => void>();

  constructor(readonly parts: JobParts) {
    this.id = parts.id ?? randomUUID();
    this.created = parts.created ?? new Date().toISOString();
    this.isDurable = parts.isDurable;
    this.outcome = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // Nobody may wait for it: prevents an unhandled rejection.
    this.outcome.catch(() => {});
  }

  get state(): JobState {
    return this.#state;
  }

  /** The seed of its noise in decimal, drawn if it was left to chance; known once it is accepted. */
  seed = "";

  /** Milliseconds since the epoch at which it ended; undefined before. */
  get endedAt(): number | undefined {
    return this.#end && Date.parse(this.#end.ended);
  }

  /** The job as it is now. */
  snapshot(): JobSnapshot {
    const { parameters, inputs, mask } = this.parts;
    const { id, created } = this;
    const position = this.#state === "queued" ? this.parts.position(this) : 0;
    const isRunning = this.#state === "running";
    const step = isRunning ? this.#step : undefined;
    return {
      ...{ id, state: this.#state, created },
      started: this.#end ? this.#end.started : this.#started,
      ended: this.#end?.ended,
      ...(position > 0 && { position }),
      ...(isRunning && { stage: this.#stage }),
      ...(step && { step: step.step, steps: step.total, eta: round(step.seconds * (step.total - step.step)) }),
      ...{ parameters, inputs, mask },
      result: this.#end?.result,
      error: this.#end?.error,
    };
  }

  /** The bytes of its picture. Throws QEDIT_E_USAGE if it has none. */
  content(): Promise<Uint8Array> {
    if (this.#content) return this.#content();
    throw new QeditError("QEDIT_E_USAGE", `Job ${this.id} has no picture: it is ${this.#state}`);
  }

  /** Stops it between two steps. One that has ended stays as it is. */
  async cancel(): Promise<void> {
    if (!isFinal(this.#state)) await this.parts.cancel(this);
  }

  /** Passes what has happened, and from now on what happens; call the result to stop. */
  subscribe(listener: (event: JobEvent) => void): () => void {
    listener({ kind: "state", job: this.snapshot() });
    for (const event of this.#events) listener({ kind: "progress", event });
    if (!isFinal(this.#state)) this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether anybody listens. */
  get hasListeners(): boolean {
    return this.#listeners.size > 0;
  }

  /** Takes an event of its edit. */
  progress(event: ProgressEvent): void {
    if (isFinal(this.#state)) return;
    if (event.kind === "start") [this.#stage, this.#step] = [event.stage, undefined];
    if (event.kind === "step") this.#step = event;
    if (event.kind !== "step" && event.kind !== "activity" && this.#events.length < KEPT_EVENTS)
      this.#events.push(event);
    this.#emit({ kind: "progress", event });
  }

  /** Takes a preview. */
  preview(image: Image): void {
    this.#emit({ kind: "preview", step: this.#step?.step ?? 0, image });
  }

  /** Emits its state again: its place in the queue has changed. */
  announce(): void {
    if (this.hasListeners) this.#emit({ kind: "state", job: this.snapshot() });
  }

  /** Says that its work has begun. */
  start(): void {
    if (this.#state !== "queued") return;
    [this.#state, this.#started] = ["running", new Date().toISOString()];
    this.announce();
  }

  /** How it would end now. */
  ending(end: Pick<JobEnd, "state" | "result" | "error">): JobEnd {
    return { started: this.#started, ended: new Date().toISOString(), ...end };
  }

  /** Ends it with its picture. */
  complete(end: JobEnd, content: () => Promise<Uint8Array>): void {
    if (isFinal(this.#state)) return;
    this.#content = content;
    this.#finish(end);
    this.#settle.resolve(end.result!);
  }

  /** Leaves it as it is, for the next start of the server: nobody hears more of it from this one. */
  suspend(): void {
    this.#listeners.clear();
  }

  /** Ends it without a picture; `end` if that was stored before. */
  fail(error: unknown, state: "failed" | "cancelled" = "failed", end?: JobEnd): void {
    if (isFinal(this.#state)) return;
    this.#finish(end ?? this.ending({ state, error: failureOf(error) }));
    this.#settle.reject(error);
  }

  #finish(end: JobEnd): void {
    [this.#state, this.#end] = [end.state, end];
    this.#emit({ kind: "state", job: this.snapshot() });
    this.#listeners.clear();
  }

  #emit(event: JobEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

function round(seconds: number): number {
  return Number(seconds.toFixed(3));
}
