// What the messages hold, as the schemas of avro-schemas.ts describe it.
import type { StageName } from "../../stages/stage.js";

/** A file in the store that client and workers share. */
export interface Reference {
  /** `file://` and its path. */
  readonly uri: string;
  readonly sha256: string;
  readonly size: number;
}

/** A picture file, or where it is. */
export interface SentPicture {
  readonly name: string;
  readonly data: Uint8Array | Reference;
}

/** Where a job is on its way. */
export interface Envelope {
  readonly job_id: string;
  readonly workflow: readonly string[];
  readonly cursor: number;
  readonly attempt: number;
  /** Milliseconds since the epoch. */
  readonly created_at: number;
  readonly traceparent: string | null;
  readonly reply_to: string | null;
}

/** An edit that is asked for. */
export interface RunRequest {
  readonly envelope: Envelope;
  readonly images: readonly SentPicture[];
  readonly mask: SentPicture | null;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** The picture that was made. */
export interface RunResult {
  readonly picture: SentPicture;
  readonly sha256: string;
  readonly type: string;
  readonly bytes: number;
  readonly width: number;
  readonly height: number;
  readonly seed: string;
  /** JSON. */
  readonly drift: string | null;
  readonly device: string;
  readonly seconds: Readonly<Record<string, number>>;
  /** JSON. */
  readonly recipe: string;
}

/** Why there is none. */
export interface MessageError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly retryable: boolean;
}

/** How an edit ended. */
export interface RunResponse {
  readonly envelope: Envelope;
  readonly status: string;
  readonly at: number;
  readonly worker: string;
  readonly result: RunResult | null;
  readonly error: MessageError | null;
}

/** A tensor file between two stages. */
export interface SentArtifact {
  /** `latents`, `cond` or `samples`. */
  readonly kind: string;
  readonly file: Reference;
}

/** An edit on its way through the stages. */
export interface StageRequest extends RunRequest {
  readonly artifacts: readonly SentArtifact[];
  /** JSON: what the first worker took the parameters for. */
  readonly settings: string | null;
  readonly seconds: Readonly<Record<string, number>>;
}

/** How such an edit ended. */
export interface StageResponse extends RunResponse {
  readonly artifacts: readonly SentArtifact[];
  readonly seconds: Readonly<Record<string, number>>;
}

/** What a job is doing. */
export interface ProgressMessage {
  readonly job_id: string;
  readonly at: number;
  readonly worker: string;
  readonly state: string;
  readonly stage: string | null;
  readonly step: number | null;
  readonly steps: number | null;
  readonly eta: number | null;
}

/** The content of each schema. */
export type Messages = {
  readonly "run.request": RunRequest;
  readonly "run.response": RunResponse;
  readonly progress: ProgressMessage;
  readonly error: MessageError;
} & { readonly [Name in `${StageName}.request`]: StageRequest } & {
  readonly [Name in `${StageName}.response`]: StageResponse;
};

/** What is asked for. Parameters are named as in the schema; those that are left out are as the workers are set. */
type Asked = Pick<RunRequest, "images" | "mask" | "parameters">;

/** A request for a whole edit. */
export function requestMessage(id: string, asked: Asked): RunRequest {
  return { envelope: envelopeOf(id, ["run"]), ...asked };
}

/** A request for an edit that goes through stages. */
export function stageRequestMessage(id: string, workflow: readonly string[], asked: Asked): StageRequest {
  return { envelope: envelopeOf(id, workflow), ...asked, artifacts: [], settings: null, seconds: {} };
}

function envelopeOf(id: string, workflow: readonly string[]): Envelope {
  const route = { job_id: id, workflow, cursor: 0, attempt: 1, created_at: Date.now() };
  return { ...route, traceparent: null, reply_to: null };
}
