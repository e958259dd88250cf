// The jobs of a server as a client uses them: sent, followed by their events, their pictures fetched and checked.
import * as v from "valibot";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { param, QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { fileHash } from "../../std/file-hash.js";
import { streamEvents } from "./event-stream.js";
import { bytesOf, type HttpAnswer, type HttpCall, httpCall, nonsense, ServerLost, ServerUnclear } from "./http-call.js";
import type { ServerAddress } from "./server-address.js";
import {
  errorAnswer,
  type JobAnswer,
  jobAnswer,
  modelsAnswer,
  previewAnswer,
  progressAnswer,
  type ResultAnswer,
  type StatusAnswer,
  statusAnswer,
  versionAnswer,
} from "./server-answers.js";

/** An edit to send. */
export interface SentEdit {
  readonly images: readonly NamedBytes[];
  readonly mask: NamedBytes | undefined;
  /** By JSON name. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly hasPreviews: boolean;
}

/** Receives what happens to a job. */
export interface JobObserver {
  readonly onState?: (job: JobAnswer) => void;
  readonly onProgress?: (event: ProgressEvent) => void;
  /** Receives a preview as the bytes of a picture file. */
  readonly onPreview?: ((bytes: Uint8Array) => void) | undefined;
}

/** A server. Every method throws ServerLost when it is not reached or cannot be understood, and the server's own refusals. */
export interface ServerClient {
  readonly address: ServerAddress;
  /** Its version alone: of another version nothing else is understood for certain. */
  readonly version: (timeout?: number) => Promise<string>;
  readonly status: (timeout?: number) => Promise<StatusAnswer>;
  readonly models: () => Promise<v.InferOutput<typeof modelsAnswer>["data"]>;
  /** Sends an edit. Aborted before it was sent, it is not accepted. */
  readonly submit: (edit: SentEdit, signal: AbortSignal) => Promise<JobAnswer>;
  /** Follows a job to its end. Throws its error if it failed or was cancelled. */
  readonly follow: (id: string, observer: JobObserver, signal: AbortSignal) => Promise<ResultAnswer>;
  /** The picture of a completed job, of the hash that was announced. */
  readonly content: (id: string, result: ResultAnswer, signal: AbortSignal) => Promise<Uint8Array>;
  readonly cancel: (id: string) => Promise<void>;
  /** Posts to a path, and gives the answer. */
  readonly post: <T>(path: string, schema: v.GenericSchema<unknown, T>, signal: AbortSignal) => Promise<T>;
}

/** Bytes of an answer in JSON. */
const MOST_JSON = 16 * 1024 ** 2;
/** Characters of one event; a preview is the longest. */
const MOST_EVENT = 32 * 1024 ** 2;
/** Milliseconds without a byte: of a short answer, of one that opens model files, of a stream with a comment every 15 s. */
const TIMEOUTS = { answer: 15_000, work: 3600_000, stream: 60_000 };
/** How often a stream that breaks off while the job goes on is opened again. */
const MOST_STREAMS = 5;

const JSON_TYPE = { "content-type": "application/json" };

/** A client of the server at an address; with a key it is sent along. */
export function serverClient(address: ServerAddress, key: string | undefined): ServerClient {
  const headers = { "x-qedit-texts": "marked", ...(key && { authorization: `Bearer ${key}` }) };
  const call = async (rest: Omit<HttpCall, "timeout"> & { readonly timeout?: number }) => {
    const answer = await httpCall(address, {
      timeout: TIMEOUTS.answer,
      ...rest,
      headers: { ...headers, ...rest.headers },
    });
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw await refusalOf(answer, address);
  };
  const json = async <T>(answer: HttpAnswer, schema: v.GenericSchema<unknown, T>): Promise<T> =>
    checked(parsed((await bytesOf(answer, address, MOST_JSON)).toString("utf8"), address), schema, address);
  const get = async <T>(path: string, schema: v.GenericSchema<unknown, T>, rest: Partial<HttpCall> = {}): Promise<T> =>
    json(await call({ method: "GET", path, ...rest }), schema);
  return {
    address,
    version: async (timeout = TIMEOUTS.answer) => (await get("/v1/status", versionAnswer, { timeout })).version,
    status: (timeout = TIMEOUTS.answer) => get("/v1/status", statusAnswer, { timeout }),
    models: async () => (await get("/v1/models", modelsAnswer)).data,
    async submit(edit, signal) {
      const body = bodyOf(edit);
      const sent = { method: "POST", path: "/v1/jobs", body, headers: JSON_TYPE, timeout: TIMEOUTS.work } as const;
      const job = await json(await call({ ...sent, signal, isKeptWhenSent: true }), jobAnswer);
      if (!signal.aborted) return job;
      await cancel(job.id);
      throw signal.reason;
    },
    async follow(id, observer, signal) {
      // A stream that is opened again repeats the events that are kept.
      let known = 0;
      for (let stream = 0; stream < MOST_STREAMS; stream += 1) {
        const end = await follow(id, { observer, signal, skip: known, seen: () => (known += 1) });
        if (end !== undefined) return endOf(end, address);
      }
      throw nonsense(address, "with streams of events that end before the job does");
    },
    async content(id, result, signal) {
      const path = `/v1/jobs/${id}/content`;
      const answer = await call({ method: "GET", path, timeout: TIMEOUTS.stream, signal });
      const bytes = await bytesOf(answer, address, result.bytes);
      if (bytes.length === result.bytes && (await fileHash(bytes)) === result.sha256) return bytes;
      throw nonsense(address, `another picture than it announced for job ${id}`);
    },
    cancel,
    async post(path, schema, signal) {
      return json(await call({ method: "POST", path, timeout: TIMEOUTS.work, signal }), schema);
    },
  };

  async function cancel(id: string): Promise<void> {
    await bytesOf(await call({ method: "DELETE", path: `/v1/jobs/${id}` }), address, MOST_JSON);
  }

  // One stream of a job's events; undefined: it broke off, and the job goes on.
  async function follow(
    id: string,
    { observer, signal, skip, seen }: { observer: JobObserver; signal: AbortSignal; skip: number; seen: () => void },
  ): Promise<JobAnswer | undefined> {
    const path = `/v1/jobs/${id}`;
    let repeated = skip;
    try {
      const answer = await call({ method: "GET", path: `${path}/events`, timeout: TIMEOUTS.stream, signal });
      if (!(answer.header("content-type") ?? "").startsWith("text/event-stream"))
        throw nonsense(address, "no stream of events");
      const tooLong = () => nonsense(address, "an event without an end");
      for await (const { name, data } of streamEvents(answer.body, { most: MOST_EVENT, tooLong })) {
        if (name === "state") {
          const job = checked(parsed(data, address), jobAnswer, address);
          observer.onState?.(job);
          if (isFinal(job)) return job;
        } else if (name === "progress") {
          const event = checked(parsed(data, address), progressAnswer, address);
          const isKept = event.kind !== "step" && event.kind !== "activity";
          if (isKept && repeated > 0) repeated -= 1;
          else {
            if (isKept) seen();
            observer.onProgress?.(event);
          }
        } else if (name === "preview" && observer.onPreview) {
          const { b64_json: picture } = checked(parsed(data, address), previewAnswer, address);
          observer.onPreview(Buffer.from(picture, "base64"));
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ServerLost) || error instanceof ServerUnclear) throw error;
    }
    const job = await stillThere(path, { id, signal });
    return isFinal(job) ? job : undefined;
  }

  // The job after its stream broke off. Throws, where the server has gone, what to do.
  async function stillThere(path: string, { id, signal }: { id: string; signal: AbortSignal }): Promise<JobAnswer> {
    try {
      return await get(path, jobAnswer, { signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ServerLost) || error instanceof ServerUnclear) throw error;
      throw new ServerLost("QEDIT_E_NETWORK", `The server at ${address.text} has gone while it made job ${id}`, {
        hint: `After its next start it goes on: GET /v1/jobs/${id}, and /content for the picture`,
        cause: error,
      });
    }
  }
}

// The body of POST /v1/jobs.
function bodyOf({ images, mask, parameters, hasPreviews }: SentEdit): Buffer {
  const written = ({ name, bytes }: NamedBytes) => ({ name, data: Buffer.from(bytes).toString("base64") });
  return Buffer.from(
    JSON.stringify({
      ...parameters,
      images: images.map(written),
      ...(mask && { mask: written(mask) }),
      ...(hasPreviews && { previews: true }),
    }),
  );
}

function isFinal({ state }: JobAnswer): boolean {
  return state !== "queued" && state !== "running";
}

function endOf({ id, state, result, error }: JobAnswer, address: ServerAddress): ResultAnswer {
  if (state === "completed") return result!;
  if (state === "cancelled")
    throw new QeditError("QEDIT_E_INTERRUPTED", `Job ${id} was cancelled on the server at ${address.text}`);
  if (error === undefined) throw nonsense(address, `that job ${id} failed, but not why`);
  throw new QeditError(error.code, error.message, { hint: error.hint ?? undefined });
}

// The server's own refusal as the same error here; what only HTTP has is the protocol's.
async function refusalOf(answer: HttpAnswer, address: ServerAddress): Promise<QeditError> {
  const { status } = answer;
  const { text } = address;
  const body = await bytesOf(answer, address, MOST_JSON);
  const read = v.safeParse(
    errorAnswer,
    orUndefined(() => JSON.parse(body.toString("utf8"))),
  );
  if (!read.success) return nonsense(address, `with HTTP status ${status}, and not as qedit does`);
  const { message, qedit_code: code, hint } = read.output.error;
  if (status === 401)
    return new QeditError("QEDIT_E_USAGE", `Cannot use the server at ${text}: ${lowered(message)}`, {
      hint: "Set the key of the server in QEDIT_API_KEY",
    });
  // Its stopping is not ours.
  if (code === "QEDIT_E_TERMINATED")
    return new ServerLost("QEDIT_E_NETWORK", `Cannot use the server at ${text}: it is stopping`, {
      hint: `Send it again later, or edit here: ${param("server", "none")}`,
    });
  if (code === null)
    return new QeditError("QEDIT_E_NETWORK", `Cannot use the server at ${text}: ${lowered(message)}`, {
      hint: hint ?? undefined,
    });
  return new QeditError(code, message, { hint: hint ?? undefined });
}

function lowered(message: string): string {
  return `${message.slice(0, 1).toLowerCase()}${message.slice(1)}`;
}

function parsed(text: string, address: ServerAddress): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw nonsense(address, "what is not JSON");
  }
}

function checked<T>(value: unknown, schema: v.GenericSchema<unknown, T>, address: ServerAddress): T {
  const { success, output, issues } = v.safeParse(schema, value);
  if (success) return output;
  const [issue] = issues;
  const path = issue === undefined ? null : v.getDotPath(issue);
  throw nonsense(address, `JSON of another form${path === null ? "" : `, at ${path}`}`);
}

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
