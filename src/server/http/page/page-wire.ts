// The JSON that the page exchanges with its server: jobs, models, status, errors. Only what the page reads.

/** States of a job; the last three are final. */
export type State = "queued" | "running" | "completed" | "failed" | "cancelled";

/** A file that was sent with a job. */
export interface Input {
  readonly name: string;
  readonly sha256: string;
}

/** The picture of a completed job, without its bytes. */
export interface Result {
  readonly type: string;
  readonly bytes: number;
  readonly width: number;
  readonly height: number;
  readonly seed: string;
  readonly device: string;
  readonly seconds: Readonly<Record<string, number>>;
  readonly drift: { readonly zoom: number; readonly right: number; readonly down: number } | null;
  readonly recipe: object;
}

/** Why a job or a request failed. */
export interface Fault {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | null | undefined;
}

/** A job of /v1/jobs. */
export interface Job {
  readonly id: string;
  readonly state: State;
  readonly created: string;
  /** Place in the queue, 1 is next. */
  readonly position?: number | undefined;
  readonly stage?: string | undefined;
  readonly step?: number | undefined;
  readonly steps?: number | undefined;
  /** Seconds until sampling ends. */
  readonly eta?: number | undefined;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inputs: readonly Input[];
  readonly mask?: Input | undefined;
  readonly result?: Result | undefined;
  readonly error?: Fault | undefined;
}

/** A model of /v1/models. */
export interface Model {
  readonly id: string;
  readonly summary?: string;
  readonly is_default: boolean;
  /** Whether it makes a picture of a prompt alone. */
  readonly generates: boolean;
  readonly presets: readonly string[];
}

/** What /v1/status says. */
export interface Status {
  readonly phase: "starting" | "ready" | "draining";
  readonly device: string;
  readonly limits: {
    /** Bytes of a request. */
    readonly body: number;
    /** Pictures of a request. */
    readonly pictures: number;
  };
}

/** A progress event of a running job. */
export type Progress =
  | { readonly event: "start"; readonly stage: string }
  | { readonly event: "step"; readonly step: number; readonly total: number; readonly seconds: number }
  | { readonly event: "warning"; readonly text: string }
  | { readonly event: "other" };

/** Whether a job has ended. */
export function isEnded({ state }: Pick<Job, "state">): boolean {
  return state !== "queued" && state !== "running";
}
