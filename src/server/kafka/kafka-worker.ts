// Does requests that come by Kafka: reads their pictures, has the edit done by the server, keeps the result, answers, and then commits. A message that
// comes again finds its result and is only answered.
import { setTimeout as delay } from "node:timers/promises";
import type { EditRequest } from "../../edit/request/edit-request.js";
import { QeditError } from "../../std/errors.js";
import type { EditServer } from "../edit-server.js";
import type { Log } from "../log.js";
import { contentOf } from "../request-content.js";
import type { ServerJob } from "../server-job.js";
import type { AvroCodec } from "./avro-codec.js";
import type { ClaimStore, StoredResult } from "./claim-store.js";
import { checkEnvelope, refused, seedOf, traceHeaders, traceOf } from "./envelopes.js";
import { type JobEnding, type JobReports, placeOf } from "./job-reports.js";
import type { Envelope, RunRequest, RunResponse } from "./kafka-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { TOPICS } from "./kafka-topics.js";
import { storedResult } from "./stored-result.js";

/** What a worker works with. */
export interface WorkerParts {
  readonly client: Pick<KafkaClient, "produce" | "topicNames">;
  readonly codec: AvroCodec;
  readonly store: ClaimStore;
  readonly server: EditServer;
  readonly reports: JobReports;
  readonly log: Log;
  readonly stop: AbortSignal;
}

interface Taken {
  readonly message: KafkaMessage;
  readonly computed: () => void;
}

/** The one stage of these requests: a whole edit. */
const STAGE = "run";
/** Milliseconds before the queue, which other doors fill too, is asked again. */
const ASK_AGAIN = 200;

/** Does messages. */
export class KafkaWorker {
  /** Results on their way into the store, by content. */
  readonly #keeping = new Map<string, Promise<StoredResult>>();

  constructor(private readonly parts: WorkerParts) {}

  /** Does a message; false leaves it undone. Calls `computed` when the device is free again. Throws QEDIT_E_NETWORK when the answer cannot be written. */
  async handle(message: KafkaMessage, isOurs: () => boolean, computed: () => void): Promise<boolean> {
    const { codec, client, reports, log } = this.parts;
    let request: RunRequest | undefined;
    let result: RunResponse["result"];
    try {
      request = await codec.decode("run.request", message.value);
      await this.#check(request.envelope);
      result = await this.#result(request, { message, computed });
    } catch (error) {
      const asked = request;
      const answer = async (ending: JobEnding) => this.#answerTo(asked!, message, ending);
      return reports.failed(message, { error, id: asked?.envelope.job_id, isOurs, answer });
    }
    // Whoever has the partition now finds the result, and answers.
    if (!isOurs()) return false;
    await client.produce(this.#response(request, message, { status: "completed", result, error: null }));
    reports.progress(request.envelope.job_id, { state: "completed" });
    log("info", `job ${request.envelope.job_id} answered`, { job: request.envelope.job_id, ...placeOf(message) });
    return true;
  }

  async #check(envelope: Envelope): Promise<void> {
    const { workflow, cursor } = envelope;
    if (workflow[cursor] !== STAGE)
      throw refused(
        `stage ${cursor} of [${workflow.join(", ").slice(0, 200)}] is not ${STAGE}`,
        'Set workflow to ["run"] and cursor to 0',
      );
    if (cursor !== workflow.length - 1)
      throw refused(`nothing is done after ${STAGE}`, 'Set workflow to ["run"] and cursor to 0');
    await checkEnvelope(envelope, this.parts.client);
  }

  async #result(request: RunRequest, taken: Taken): Promise<RunResponse["result"]> {
    const { store, server } = this.parts;
    const { job_id: id } = request.envelope;
    const edit = await this.#edit(request);
    const content = await contentOf(edit, server, { job: id, drawn: seedOf(id) });
    // The same request may have come just before.
    const found = (await this.#keeping.get(content.sha256)) ?? (await store.find(content.sha256));
    const result =
      found ?? (await this.#compute(withSeed(edit, content.seed), { request, content: content.sha256, ...taken }));
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
    { request, message, computed, content }: Taken & { request: RunRequest; content: string },
  ): Promise<StoredResult> {
    const job = await this.#submitted(edit, traceOf(request.envelope, message));
    const stop = job.subscribe((event) => {
      if (event.kind === "progress") this.parts.reports.progress(request.envelope.job_id, progressOf(job));
    });
    try {
      const result = await job.outcome;
      const keeping = this.parts.store.keep(content, storedResult(result), await job.content());
      this.#keeping.set(content, keeping);
      computed();
      return await keeping.finally(() => this.#keeping.delete(content));
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

  // A topic that cannot take the answer keeps nobody from going on.
  async #answerTo(request: RunRequest, message: KafkaMessage, ending: JobEnding): Promise<ProducedMessage> {
    const answer = this.#response(request, message, ending);
    const topic = await this.#check(request.envelope).then(
      () => answer.topic,
      () => TOPICS.response,
    );
    return { ...answer, topic };
  }

  #response(request: RunRequest, message: KafkaMessage, ending: JobEnding): ProducedMessage {
    const { envelope } = request;
    const response = {
      envelope: { ...envelope, cursor: envelope.cursor + 1 },
      at: Date.now(),
      worker: this.parts.reports.worker,
      ...ending,
    };
    return {
      topic: envelope.reply_to ?? TOPICS.response,
      key: envelope.job_id,
      value: this.parts.codec.encode("run.response", response),
      ...traceHeaders(traceOf(envelope, message)),
    };
  }
}

function progressOf(job: ServerJob) {
  const { stage = null, step = null, steps = null, eta = null } = job.snapshot();
  return { state: "running", stage, step, steps, eta };
}

function withSeed(edit: EditRequest, seed: string): EditRequest {
  return { ...edit, parameters: { ...edit.parameters, seed } };
}
