// Does single stages of edits that go by a routing slip: keeps what a stage makes, hands the edit on to the next stage or answers, and then commits. A
// message that comes again finds what was made and is only handed on.
import type { Artifact } from "../../artifacts/artifact.js";
import { encodingOf } from "../../edit/finish/picture-encoding.js";
import { deviceNames } from "../../edit/service/service.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { EditServer } from "../edit-server.js";
import { serverStopping } from "../job-runner.js";
import { LazyPictures } from "../lazy-pictures.js";
import type { Log } from "../log.js";
import { pictureResult } from "../picture-result.js";
import { agreedSettings } from "./agreed-settings.js";
import type { AvroCodec } from "./avro-codec.js";
import type { ClaimStore, StoredResult } from "./claim-store.js";
import { checkEnvelope, traceHeaders, traceOf } from "./envelopes.js";
import { type JobEnding, type JobReports, placeOf } from "./job-reports.js";
import type { SentPicture, StageRequest } from "./kafka-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { requestTopic, responseTopic, type Work } from "./kafka-topics.js";
import { KeptSoon } from "./kept-soon.js";
import { caught, type InTurn } from "./message-turn.js";
import { readStageWork, secondsOf } from "./stage-requests.js";
import type { KeptArtifact, StageStore } from "./stage-store.js";
import { checkStage, makeArtifact, makePicture, type Originals, type StageWork, stageContent } from "./stage-work.js";
import { storedResult } from "./stored-result.js";
import { lastStage, stagesAhead } from "./workflow.js";

/** What a worker of a stage works with. */
interface StageParts {
  readonly client: Pick<KafkaClient, "produce" | "topicNames">;
  readonly codec: AvroCodec;
  readonly store: ClaimStore;
  readonly artifacts: StageStore;
  readonly server: EditServer;
  readonly reports: JobReports;
  readonly log: Log;
  /** Stops the stage in hand between two steps: its message is left undone. */
  readonly ending: AbortSignal;
}

/** A request on its way. What waits for no device was begun. */
interface Begun {
  readonly request: Promise<StageRequest>;
  readonly read: Promise<ReadStage>;
}

interface ReadStage {
  readonly request: StageRequest;
  /** The stages that are left. */
  readonly ahead: readonly StageName[];
  readonly work: StageWork;
  /** SHA-256: the name of what it makes. */
  readonly content: string;
}

/** What a stage came to: the request with what it made, or the picture. */
type Done = Pick<StageRequest, "artifacts" | "settings" | "seconds"> & Pick<JobEnding, "result">;

/** Does the messages of one stage. */
export class StageWorker {
  readonly #keeping = new KeptSoon<KeptArtifact>();
  readonly #decoding = new KeptSoon<StoredResult>();

  constructor(
    private readonly stage: StageName,
    private readonly parts: StageParts,
  ) {}

  /** Reads, resolves and checks a message, which needs no device. The result is called in its turn. */
  begin(message: KafkaMessage): InTurn {
    const request = caught(this.parts.codec.decode(`${this.stage}.request`, message.value));
    const read = caught(request.then((each) => this.#read(each)));
    return (isOurs, computed) => this.#handled(message, { request, read, isOurs, computed });
  }

  async #handled(
    message: KafkaMessage,
    { isOurs, computed, ...begun }: Begun & { isOurs: () => boolean; computed: () => void },
  ): Promise<boolean> {
    const { client, reports, log } = this.parts;
    let request: StageRequest | undefined;
    let next: StageName | undefined;
    let made: ProducedMessage;
    try {
      request = await begun.request;
      const read = await begun.read;
      [, next] = read.ahead;
      made = await this.#made(read, message, await this.#done(read, computed));
    } catch (error) {
      return this.#failed(message, { error, request, isOurs });
    }
    // Whoever has the partition now finds what was made, and hands it on.
    if (!isOurs()) return false;
    const { job_id: id } = request.envelope;
    try {
      await client.produce(made);
    } catch (error) {
      // Too large for the next topic, for the parameters are.
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_USAGE") throw error;
      return this.#failed(message, { error, request, isOurs });
    }
    if (next === undefined) reports.progress(id, { state: "completed" });
    log("info", `job ${id} ${next === undefined ? "answered" : `sent on to ${next}`}`, {
      job: id,
      ...placeOf(message),
    });
    return true;
  }

  #failed(
    message: KafkaMessage,
    failed: { readonly error: unknown; readonly request: StageRequest | undefined; readonly isOurs: () => boolean },
  ): Promise<boolean> {
    const { error, request, isOurs } = failed;
    const answer = async (ending: JobEnding) => this.#answerTo(request!, message, ending);
    return this.parts.reports.failed(message, { error, id: request?.envelope.job_id, isOurs, answer });
  }

  async #read(request: StageRequest): Promise<ReadStage> {
    const { images, artifacts } = request;
    await checkEnvelope(request.envelope, this.parts.client);
    const ahead = stagesAhead(request.envelope, this.stage, { pictures: images.length, artifacts });
    const work = await readStageWork(request, ahead, { ...this.parts, emit: this.#noted(request) });
    return { request, ahead, work, content: await stageContent(work) };
  }

  async #done(read: ReadStage, computed: () => void): Promise<Done> {
    const { stage } = this;
    const { store, artifacts: kept, log } = this.parts;
    const { request, work, content } = read;
    const { job_id: id } = request.envelope;
    const settings = request.settings ?? agreedSettings(work.settings);
    if (stage === "decode") {
      const found = (await this.#decoding.of(content)) ?? (await store.find(content));
      if (found) log("info", `job ${id}: decode was done before`, { job: id });
      const result = found ?? (await this.#decoded(read, computed));
      const { artifacts } = request;
      return {
        settings,
        artifacts,
        seconds: result.seconds,
        result: { picture: await store.pictureOf(result, id), ...result },
      };
    }
    const found = (await this.#keeping.of(content)) ?? (await kept.find(content));
    if (found) log("info", `job ${id}: ${stage} was done before`, { job: id });
    const { artifact, seconds } = found ?? (await this.#computed(read, computed));
    return {
      ...{ settings, result: null, artifacts: [...request.artifacts, artifact] },
      seconds: { ...secondsOf(request), [stage]: seconds },
    };
  }

  async #computed(read: ReadStage, computed: () => void): Promise<KeptArtifact> {
    const { server, artifacts } = this.parts;
    const { service } = server;
    const { made, seconds } = await this.#inTurn(read, (originals, call) =>
      makeArtifact(read.work, originals, { service, ...call }),
    );
    const keeping = this.#keeping.add(read.content, () => artifacts.keep(read.content, made, seconds));
    computed();
    return keeping;
  }

  async #decoded(read: ReadStage, computed: () => void): Promise<StoredResult> {
    const { server, store } = this.parts;
    const { service } = server;
    const { request, work, content } = read;
    const { made, seconds } = await this.#inTurn({ ...read, ahead: ["decode"] }, (originals, call) =>
      makePicture(work, originals, { service, ...call }),
    );
    const keeping = this.#decoding.add(content, async () => {
      const { bytes, result } = await pictureResult(made, {
        encoding: encodingOf(work.values),
        seed: seedIn(work.artifacts.samples!),
        device: deviceNames(service),
        seconds: { ...secondsOf(request), decode: seconds },
      });
      return store.keep(content, storedResult(result), bytes);
    });
    computed();
    return keeping;
  }

  // Pictures are decoded when it is their turn: decoded they are large.
  async #inTurn<T>(
    { request, work, ahead }: ReadStage,
    compute: (originals: Originals, call: { emit: Emit; signal: AbortSignal }) => Promise<T>,
  ): Promise<{ readonly made: T; readonly seconds: number }> {
    const { server, ending: signal, log } = this.parts;
    const { service, limits } = server;
    const { job_id: id } = request.envelope;
    const lazy = new LazyPictures(async () => ({ ...work, parameters: {} }), limits).lazy;
    let seconds = 0;
    const emit: Emit = (event) => {
      if (event.kind === "end") seconds = Number(event.seconds.toFixed(3));
      this.#progress(id, event);
    };
    try {
      const turn = async () => {
        if (server.phase === "draining") throw serverStopping();
        const originals = { pictures: await lazy.pictures(), mask: await lazy.mask() };
        await checkStage(work, originals, { service, ahead });
        const made = await compute(originals, { emit, signal });
        log("info", `job ${id}: ${work.stage} computed in ${seconds} s`, { job: id, stage: work.stage, seconds });
        return { made, seconds };
      };
      return await server.stages.take(work.stage, turn, signal);
    } catch (error) {
      // Why it was stopped is known here.
      throw signal.aborted ? serverStopping() : error;
    }
  }

  #progress(id: string, event: Parameters<Emit>[0]): void {
    const { stage } = this;
    const running = { state: "running", stage };
    if (event.kind === "start") this.parts.reports.progress(id, running);
    if (event.kind !== "step") return;
    const { step, total: steps, seconds } = event;
    const eta = Number((seconds * (steps - step)).toFixed(3));
    this.parts.reports.progress(id, { ...running, step, steps, eta });
  }

  #noted({ envelope: { job_id: job } }: StageRequest): Emit {
    return (event) => {
      if (event.kind === "warning") this.parts.log("warn", event.text, { job });
    };
  }

  // The request for the next stage, or the answer of the last.
  async #made({ request, ahead: [, next] }: ReadStage, message: KafkaMessage, done: Done): Promise<ProducedMessage> {
    if (next === undefined) return this.#response(request, message, { ...done, status: "completed", error: null });
    const { envelope, mask, parameters } = request;
    const { artifacts, settings, seconds } = done;
    const onward = { ...envelope, cursor: envelope.cursor + 1, attempt: 1 };
    const images = await this.#packed(request.images);
    const [packedMask = null] = await this.#packed(mask === null ? [] : [mask]);
    const sent = { images, mask: packedMask, parameters, artifacts, settings, seconds };
    return {
      topic: requestTopic(next),
      key: envelope.job_id,
      value: this.parts.codec.encode(`${next}.request`, { envelope: onward, ...sent }),
      ...traceHeaders(traceOf(envelope, message)),
    };
  }

  // What a client has put into a message that is just not too large would make the next one so.
  async #packed(pictures: readonly SentPicture[]): Promise<readonly SentPicture[]> {
    const packed: SentPicture[] = [];
    const inline = pictures.flatMap(({ name, data }) => (data instanceof Uint8Array ? [{ name, bytes: data }] : []));
    const stored = await this.parts.store.pack(inline);
    for (const each of pictures) packed.push(each.data instanceof Uint8Array ? stored.shift()! : each);
    return packed;
  }

  // A workflow or a topic that cannot be used keeps the client from no answer.
  async #answerTo(request: StageRequest, message: KafkaMessage, ending: JobEnding): Promise<ProducedMessage> {
    const answer = this.#response(request, message, ending);
    const topic = await checkEnvelope(request.envelope, this.parts.client).then(
      () => answer.topic,
      () => responseTopic(this.#last(request)),
    );
    return { ...answer, topic };
  }

  #response(request: StageRequest, message: KafkaMessage, ending: JobEnding & Partial<Done>): ProducedMessage {
    const { envelope } = request;
    const { artifacts = request.artifacts, seconds = request.seconds } = ending;
    const { status, result, error } = ending;
    const response = {
      envelope: { ...envelope, cursor: envelope.cursor + 1 },
      ...{ at: Date.now(), worker: this.parts.reports.worker, status, result, error, artifacts, seconds },
    };
    const last = this.#last(request);
    return {
      topic: envelope.reply_to ?? responseTopic(last),
      key: envelope.job_id,
      value: this.parts.codec.encode(`${last}.response`, response),
      ...traceHeaders(traceOf(envelope, message)),
    };
  }

  // Where the client waits, if it can be known.
  #last({ envelope }: StageRequest): Exclude<Work, "run"> {
    const last = lastStage(envelope);
    return last === undefined || last === "run" ? this.stage : last;
  }
}

// Empty for samples that do not say it.
function seedIn({ info: { settings } }: Artifact): string {
  const seed = (settings["sample"] as { readonly seed?: unknown } | undefined)?.seed;
  return typeof seed === "string" && /^\d{1,20}$/.test(seed) ? seed : "";
}
