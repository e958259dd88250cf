// What the server says of a job: the JSON of /v1/jobs/{id}, and the events of its life.
import type { Recipe } from "../artifacts/recipe.js";
import type { Image } from "../image/image.js";
import type { Failure } from "../std/errors.js";
import type { ProgressEvent } from "../std/events.js";

/** States of a job; the last three are final. */
export type JobState = "queued" | "running" | "completed" | "failed" | "cancelled";

/** A file that was sent with a job. */
export interface JobInput {
  readonly name: string;
  readonly sha256: string;
}

/** The picture of a completed job, without its bytes. */
export interface JobResult {
  /** Of the picture's file. */
  readonly sha256: string;
  /** MIME type. */
  readonly type: string;
  readonly bytes: number;
  readonly width: number;
  readonly height: number;
  /** In decimal: it has up to 64 bits. */
  readonly seed: string;
  readonly drift: object | null;
  readonly device: string;
  /** By stage. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly recipe: Recipe;
}

/** A job as it is now; times are ISO 8601. */
export interface JobSnapshot {
  readonly id: string;
  readonly state: JobState;
  readonly created: string;
  readonly started?: string | undefined;
  readonly ended?: string | undefined;
  /** Place in the queue, 1 is next; only while queued. */
  readonly position?: number | undefined;
  readonly stage?: string | undefined;
  readonly step?: number | undefined;
  readonly steps?: number | undefined;
  /** Seconds until sampling ends. */
  readonly eta?: number | undefined;
  /** As they were given. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inputs: readonly JobInput[];
  readonly mask?: JobInput | undefined;
  readonly result?: JobResult | undefined;
  readonly error?: Failure | undefined;
}

/** What happens to a job. */
export type JobEvent =
  | { readonly kind: "state"; readonly job: JobSnapshot }
  | { readonly kind: "progress"; readonly event: ProgressEvent }
  | { readonly kind: "preview"; readonly step: number; readonly image: Image };

/** Whether a job in this state has ended. */
export function isFinal(state: JobState): boolean {
  return state === "completed" || state === "failed" || state === "cancelled";
}
