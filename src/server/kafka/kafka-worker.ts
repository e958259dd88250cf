// Does requests that come by Kafka: reads their pictures, has the edit done by the server, keeps the result, answers, and then commits. A message that
// comes again finds its result and is only answered.
import { setTimeout as delay } from "node:timers/promises";
import type { EditRequest } from "../../edit/request/edit-request.js";
import { QeditError } from "../../std/errors.js";
import type { EditServer, PreparedJob } from "../edit-server.js";
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
import { KeptSoon } from "./kept-soon.js";
import { caught, type InTurn } from "./message-turn.js";
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

/** A request on its way. What waits for no device was begun. */
interface Begun {
  readonly request: Promise<RunRequest>;
  readonly resolved: Promise<ResolvedRequest>;
}

interface ResolvedRequest {
  readonly request: RunRequest;
  /** SHA-256: the name of its result. */
  readonly content: string;
  /** Not asked for a request whose result is there. */
  readonly prepared: Promise<PreparedJob>;
}

/** The one stage of these requests: a whole edit. */
const STAGE = "run";
/** Milliseconds before the queue, which other doors fill too, is asked again. */
const ASK_AGAIN = 200;

/** Does messages. */
export class KafkaWorker {
  readonly #keeping = new KeptSoon<StoredResult>();

  constructor(private readonly parts: WorkerParts) {}

  /** Reads, resolves and checks a message, which needs no device. The result is called in its turn. */
  begin(message: KafkaMessage): InTurn {
    const request = caught(this.parts.codec.decode("run.request", message.value));
    const resolved = caught(request.then((read) => this.#resolve(read, message)));
    return (isOurs, computed) => this.#done(message, { request, resolved, isOurs, computed });
  }

  async #done(
    message: KafkaMessage,
    { isOurs, computed, ...begun }: Begun & { isOurs: () => boolean; computed: () => void },
  ): Promise<boolean> {
    const { client, reports, log } = this.parts;
    let request: RunRequest | undefined;
    let result: RunResponse["result"];
    try {
      request = await begun.request;
      result = await this.#result(await begun.resolved, computed);
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

  async #resolve(request: RunRequest, message: KafkaMessage): Promise<ResolvedRequest> {
    const { server } = this.parts;
    const { envelope } = request;
    await this.#check(envelope);
    const edit = await this.#edit(request);
    const content = await contentOf(edit, server, { job: envelope.job_id, drawn: seedOf(envelope.job_id) });
    const traceparent = traceOf(envelope, message);
    const prepared = server.prepare(withSeed(edit, content.seed), { traceparent });
    return { request, content: content.sha256, prepared: caught(prepared) };
  }

  async #result(resolved: ResolvedRequest, computed: () => void): Promise<RunResponse["result"]> {
    const { store } = this.parts;
    const { request, content } = resolved;
    // The same request may have come just before.
    const found = (await this.#keeping.of(content)) ?? (await store.find(content));
    const result = found ?? (await this.#compute(resolved, computed));
    return { picture: await store.pictureOf(result, request.envelope.job_id), ...result };
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

  async #compute({ request, content, prepared }: ResolvedRequest, computed: () => void): Promise<StoredResult> {
    const { store, reports } = this.parts;
    const job = await this.#started(await prepared);
    const stop = job.subscribe((event) => {
      if (event.kind === "progress") reports.progress(request.envelope.job_id, progressOf(job));
    });
    try {
      const result = await job.outcome;
      const keeping = this.#keeping.add(content, async () =>
        store.keep(content, storedResult(result), await job.content()),
      );
      computed();
      return await keeping;
    } finally {
      stop();
    }
  }

  // Other doors fill the queue too: the message waits here, and its partition with it.
  async #started(prepared: PreparedJob): Promise<ServerJob> {
    for (;;) {
      try {
        return await prepared.start();
      } catch (error) {
        if (!(error instanceof QeditError) || error.code !== "QEDIT_E_BUSY" || this.parts.stop.aborted) throw error;
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
