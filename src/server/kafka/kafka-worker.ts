// Does requests that come by Kafka: reads their pictures, has the edit done by the server, keeps the result, answers, and then commits. A message that
// comes again finds its result and is only answered.
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { ERRORS } from "../../edit/error-table.js";
import type { EditRequest } from "../../edit/request/edit-request.js";
import { type Failure, failureOf, QeditError, type Spell, spelled } from "../../std/errors.js";
import type { EditServer } from "../edit-server.js";
import type { JobResult } from "../job-types.js";
import type { Log } from "../log.js";
import { contentOf } from "../request-content.js";
import type { ServerJob } from "../server-job.js";
import { validTraceparent } from "../tracing.js";
import type { AvroCodec } from "./avro-codec.js";
import type { ClaimStore, StoredResult } from "./claim-store.js";
import { fateOf, headerOf } from "./failed-messages.js";
import type { Envelope, ProgressMessage, RunRequest, RunResponse } from "./kafka-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { TOPICS } from "./kafka-topics.js";

/** What a worker works with. */
export interface WorkerParts {
  readonly client: Pick<KafkaClient, "produce" | "topicNames">;
  /** Writes a message whatever its size. */
  readonly bury: (message: ProducedMessage) => Promise<void>;
  readonly codec: AvroCodec;
  readonly store: ClaimStore;
  readonly server: EditServer;
  readonly retryDelays: readonly number[];
  readonly log: Log;
  readonly stop: AbortSignal;
}

/** The one stage of requests now: a whole edit. */
const STAGE = "run";
/** Milliseconds before the queue, which other doors fill too, is asked again. */
const ASK_AGAIN = 200;
const TOPIC_NAME = /^[\w.-]{1,249}$/;

/** Does messages. */
export class KafkaWorker {
  readonly #name = `${hostname()}-${process.pid}`;

  constructor(private readonly parts: WorkerParts) {}

  /** Does a message; false leaves it undone. Throws QEDIT_E_NETWORK when the answer cannot be written. */
  async handle(message: KafkaMessage, isOurs: () => boolean): Promise<boolean> {
    const { codec, client, log } = this.parts;
    let request: RunRequest | undefined;
    let result: RunResponse["result"];
    try {
      request = await codec.decode("run.request", message.value);
      await this.#check(request.envelope);
      result = await this.#result(request, message);
    } catch (error) {
      return this.#failed(message, { error, request }, isOurs);
    }
    // Whoever has the partition now finds the result, and answers.
    if (!isOurs()) return false;
    await client.produce(this.#response(request, message, { status: "completed", result, error: null }));
    this.#progress(request.envelope.job_id, { state: "completed" });
    log("info", `job ${request.envelope.job_id} answered`, { job: request.envelope.job_id, ...placeOf(message) });
    return true;
  }

  async #check({ workflow, cursor, reply_to: replyTo, job_id: id }: Envelope): Promise<void> {
    if (!/^[\x20-\x7e]{1,200}$/.test(id)) throw refused("job_id has to be 1 to 200 plain characters", "Use a UUID");
    if (workflow[cursor] !== STAGE)
      throw refused(
        `stage ${cursor} of [${workflow.join(", ").slice(0, 200)}] is not ${STAGE}`,
        'Set workflow to ["run"] and cursor to 0',
      );
    if (cursor !== workflow.length - 1)
      throw refused(`nothing is done after ${STAGE}`, 'Set workflow to ["run"] and cursor to 0');
    if (replyTo === null) return;
    const isOwn = Object.values<string>(TOPICS).includes(replyTo) && replyTo !== TOPICS.response;
    if (!TOPIC_NAME.test(replyTo) || isOwn)
      throw refused(`reply_to may not be "${replyTo.slice(0, 249)}"`, "Name a topic of your own");
    if (!(await this.parts.client.topicNames()).includes(replyTo))
      throw refused(`reply_to names the topic ${replyTo}, which is not there`, "Create it first");
  }

  async #result(request: RunRequest, message: KafkaMessage): Promise<RunResponse["result"]> {
    const { store, server } = this.parts;
    const { job_id: id } = request.envelope;
    const edit = await this.#edit(request);
    const content = await contentOf(edit, server, seedOf(id));
    const found = await store.find(content.sha256);
    const result =
      found ?? (await this.#compute(withSeed(edit, content.seed), { request, message, content: content.sha256 }));
    return { picture: await store.pictureOf(result, id), ...result };
  }

  async #edit({ images, mask, parameters }: RunRequest): Promise<EditRequest> {
    const { store } = this.parts;
    const pictures = [];
    for (const image of images) pictures.push({ name: image.name, bytes: await store.unpack(image) });
    const given = Object.entries(parameters).filter(([, value]) => value !== null);
    return {
      pictures,
      mask: mask === null ? undefined : { name: mask.name, bytes: await store.unpack(mask) },
      parameters: Object.fromEntries(given),
    };
  }

  async #compute(
    edit: EditRequest,
    { request, message, content }: { request: RunRequest; message: KafkaMessage; content: string },
  ): Promise<StoredResult> {
    const job = await this.#submitted(edit, traceOf(request, message));
    const stop = job.subscribe((event) => {
      if (event.kind === "progress") this.#progress(request.envelope.job_id, progressOf(job));
    });
    try {
      const result = await job.outcome;
      return await this.parts.store.keep(content, storedResult(result), await job.content());
    } finally {
      stop();
    }
  }

  // Other doors fill the queue too: the message waits here, and its partition with it.
  async #submitted(edit: EditRequest, traceparent: string | undefined): Promise<ServerJob> {
    const { server, stop } = this.parts;
    for (;;) {
      try {
        return await server.submit(edit, { traceparent });
      } catch (error) {
        if (!(error instanceof QeditError) || error.code !== "QEDIT_E_BUSY" || stop.aborted) throw error;
        await delay(ASK_AGAIN);
      }
    }
  }

  async #failed(
    message: KafkaMessage,
    { error, request }: { error: unknown; request: RunRequest | undefined },
    isOurs: () => boolean,
  ): Promise<boolean> {
    const { client, bury, log, retryDelays } = this.parts;
    const failure = spelledFailure(failureOf(error));
    const fate = fateOf(message, failure, retryDelays);
    const id = request?.envelope.job_id;
    const facts = { ...(id !== undefined && { job: id }), ...placeOf(message), error: failure, action: fate.action };
    log(
      fate.action === "leave" ? "info" : "warn",
      `job ${id ?? "(unreadable)"}: ${failure.message}: ${fate.action}`,
      facts,
    );
    if (fate.action === "leave" || !isOurs()) return false;
    if (fate.action === "retry" || fate.action === "dead-letter") await bury(fate.message);
    if (request === undefined) return true;
    if (fate.action === "retry") {
      this.#progress(request.envelope.job_id, { state: "retrying" });
      return true;
    }
    const status = fate.action === "commit" ? "cancelled" : "failed";
    const { code, message: text, hint = null } = failure;
    const response = {
      status,
      result: null,
      error: { code, message: text, hint, retryable: ERRORS[code].isRetryable === true },
    };
    // A topic that cannot take the answer keeps nobody from going on.
    const answer = this.#response(request, message, response);
    const topic = await this.#check(request.envelope).then(
      () => answer.topic,
      () => TOPICS.response,
    );
    await client.produce({ ...answer, topic });
    this.#progress(request.envelope.job_id, { state: status });
    return true;
  }

  #response(
    request: RunRequest,
    message: KafkaMessage,
    end: Pick<RunResponse, "status" | "result" | "error">,
  ): ProducedMessage {
    const { envelope } = request;
    const traceparent = traceOf(request, message);
    const response = {
      envelope: { ...envelope, cursor: envelope.cursor + 1 },
      at: Date.now(),
      worker: this.#name,
      ...end,
    };
    return {
      topic: envelope.reply_to ?? TOPICS.response,
      key: envelope.job_id,
      value: this.parts.codec.encode("run.response", response),
      ...(traceparent !== undefined && { headers: [["traceparent", Buffer.from(traceparent)]] }),
    };
  }

  #sending: Promise<void> | undefined;
  /** The newest of each job. */
  readonly #unsent = new Map<string, ProducedMessage>();

  // Progress is a courtesy: the newest is sent when those before have arrived, and what cannot be sent is left out.
  #progress(id: string, state: Pick<ProgressMessage, "state"> & Partial<ProgressMessage>): void {
    const { client, codec } = this.parts;
    const nothing = { stage: null, step: null, steps: null, eta: null };
    const message = { job_id: id, at: Date.now(), worker: this.#name, ...nothing, ...state };
    this.#unsent.set(id, { topic: TOPICS.progress, key: id, value: codec.encode("progress", message) });
    this.#sending ??= (async () => {
      for (const [each, next] of this.#unsent) {
        this.#unsent.delete(each);
        await client.produce(next).catch(() => {});
      }
      this.#sending = undefined;
    })();
  }
}

/** Parameters of messages by their names in the schema. */
const asField: Spell = (name, value) => (value === undefined ? name : `${name}: ${value}`);

function spelledFailure({ code, message, hint }: Failure): Failure {
  return { code, message: spelled(message, asField), hint: hint === undefined ? undefined : spelled(hint, asField) };
}

function progressOf(job: ServerJob) {
  const { stage = null, step = null, steps = null, eta = null } = job.snapshot();
  return { state: "running", stage, step, steps, eta };
}

function storedResult({ recipe, drift, seconds, ...rest }: JobResult): StoredResult {
  const { sha256, type, bytes, width, height, seed, device } = rest;
  return {
    ...{ sha256, type, bytes, width, height, seed, device },
    drift: drift === null ? null : JSON.stringify(drift),
    seconds: { ...seconds },
    recipe: JSON.stringify(recipe),
  };
}

// A job that leaves its seed to chance gets the same one wherever it is done again; torch's generator uses 32 bits of it.
function seedOf(jobId: string): bigint {
  return BigInt(createHash("sha256").update(jobId).digest().readUInt32BE());
}

function withSeed(edit: EditRequest, seed: string): EditRequest {
  return { ...edit, parameters: { ...edit.parameters, seed } };
}

function traceOf({ envelope }: RunRequest, message: KafkaMessage): string | undefined {
  return validTraceparent(headerOf(message, "traceparent")) ?? validTraceparent(envelope.traceparent ?? undefined);
}

function placeOf({ topic, partition, offset }: KafkaMessage): object {
  return { topic, partition, offset: String(offset) };
}

function refused(reason: string, hint: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot do the request: ${reason}`, { hint });
}
