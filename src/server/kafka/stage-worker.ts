// Does single stages of edits that go by a routing slip: keeps what a stage makes, hands the edit on to the next stage or answers, and then commits. A
// message that comes again finds what was made and is only handed on.
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { encodingOf } from "../../edit/finish/picture-encoding.js";
import { RANDOM_SEED } from "../../edit/parameters/parameter-kinds.js";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { resolveEditStage } from "../../edit/request/edit-stage.js";
import { deviceNames } from "../../edit/service/service.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { recordFault, shapeFault } from "../artifact-limits.js";
import type { EditServer } from "../edit-server.js";
import { serverStopping } from "../job-runner.js";
import { LazyPictures } from "../lazy-pictures.js";
import { checkCount, checkWork } from "../limits.js";
import type { Log } from "../log.js";
import { pictureResult } from "../picture-result.js";
import { agreedSettings, refuseOtherSettings } from "./agreed-settings.js";
import type { AvroCodec } from "./avro-codec.js";
import type { ClaimStore } from "./claim-store.js";
import { checkEnvelope, seedOf, traceHeaders, traceOf } from "./envelopes.js";
import { type JobEnding, type JobReports, placeOf } from "./job-reports.js";
import type { SentArtifact, SentPicture, StageRequest } from "./kafka-messages.js";
import type { KafkaClient, KafkaMessage, ProducedMessage } from "./kafka-port.js";
import { requestTopic, responseTopic, type Work } from "./kafka-topics.js";
import type { StageStore } from "./stage-store.js";
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

/** What a stage came to: the request with what it made, or the picture. */
type Done = Pick<StageRequest, "artifacts" | "settings" | "seconds"> & Pick<JobEnding, "result">;

/** Does the messages of one stage. */
export class StageWorker {
  constructor(
    private readonly stage: StageName,
    private readonly parts: StageParts,
  ) {}

  /** Does a message; false leaves it undone. Throws QEDIT_E_NETWORK when it cannot be handed on. */
  async handle(message: KafkaMessage, isOurs: () => boolean): Promise<boolean> {
    const { stage } = this;
    const { codec, client, reports, log } = this.parts;
    let request: StageRequest | undefined;
    let [ahead, done]: [readonly StageName[], Done | undefined] = [[], undefined];
    try {
      request = await codec.decode(`${stage}.request`, message.value);
      await checkEnvelope(request.envelope, client);
      ahead = stagesAhead(request.envelope, stage, { pictures: request.images.length, artifacts: request.artifacts });
      done = await this.#done(request, ahead);
    } catch (error) {
      const asked = request;
      const answer = async (ending: JobEnding) => this.#answerTo(asked!, message, ending);
      return reports.failed(message, { error, id: asked?.envelope.job_id, isOurs, answer });
    }
    // Whoever has the partition now finds what was made, and hands it on.
    if (!isOurs()) return false;
    const { job_id: id } = request.envelope;
    const [, next] = ahead;
    const ending = { ...done, status: "completed", error: null };
    const made =
      next === undefined ? this.#response(request, message, ending) : this.#request(next, request, message, done);
    await client.produce(made);
    if (next === undefined) reports.progress(id, { state: "completed" });
    log("info", `job ${id} ${next === undefined ? "answered" : `sent on to ${next}`}`, {
      job: id,
      ...placeOf(message),
    });
    return true;
  }

  async #done(request: StageRequest, ahead: readonly StageName[]): Promise<Done> {
    const { stage } = this;
    const { store, artifacts: kept, log } = this.parts;
    const { job_id: id } = request.envelope;
    const work = await this.#work(request, ahead);
    const content = await stageContent(work);
    const settings = request.settings ?? agreedSettings(work.settings);
    if (stage === "decode") {
      const found = await store.find(content);
      if (found) log("info", `job ${id}: decode was done before`, { job: id });
      const result = found ?? (await this.#decoded(work, request, content));
      const { artifacts } = request;
      return {
        settings,
        artifacts,
        seconds: result.seconds,
        result: { picture: await store.pictureOf(result, id), ...result },
      };
    }
    const found = await kept.find(content);
    if (found) log("info", `job ${id}: ${stage} was done before`, { job: id });
    const { artifact, seconds } = found ?? (await this.#computed(work, request, { content, ahead }));
    return {
      ...{ settings, result: null, artifacts: [...request.artifacts, artifact] },
      seconds: { ...request.seconds, [stage]: seconds },
    };
  }

  // Everything of the request that this stage needs, read and held against the limits.
  async #work(request: StageRequest, ahead: readonly StageName[]): Promise<StageWork> {
    const { stage } = this;
    const { server } = this.parts;
    const { limits, base, library } = server;
    const given = Object.entries(request.parameters).filter(([, value]) => value !== null);
    const parameters = Object.fromEntries(given);
    const resolved = await resolveEditStage(stage, { parameters }, { base, library, emit: this.#noted(request) });
    if (ahead.includes("encode-prompt")) refuseEmptyPrompt(resolved.settings);
    checkWork(resolved.settings, limits);
    const isDrawn = resolved.settings.seed === RANDOM_SEED;
    const settings = isDrawn ? { ...resolved.settings, seed: seedOf(request.envelope.job_id) } : resolved.settings;
    if (request.settings !== null) refuseOtherSettings(request.settings, settings);
    const needsPictures = stage !== "sample";
    const pictures = needsPictures ? await this.#files(request.images) : [];
    const [mask] = needsPictures && request.mask ? await this.#files([request.mask]) : [];
    if (pictures.length > 0) checkCount({ pictures, parameters }, limits);
    const artifacts = await this.#inputs(request);
    const hashes = Object.fromEntries(
      request.artifacts.filter(({ kind }) => kind in artifacts).map(({ kind, file }) => [kind, file.sha256]),
    );
    const work = { ...resolved, settings, stage, isDrawn, pictures, mask, artifacts, hashes };
    refuseOtherVae(work, request);
    return work;
  }

  async #files(pictures: readonly SentPicture[]): Promise<NamedBytes[]> {
    const files = [];
    for (const picture of pictures) files.push({ name: picture.name, bytes: await this.parts.store.unpack(picture) });
    return files;
  }

  async #inputs({ artifacts }: StageRequest): Promise<Partial<Record<ArtifactKind, Artifact>>> {
    const needed = this.stage === "sample" ? ["latents", "cond"] : this.stage === "decode" ? ["samples"] : [];
    const read: Partial<Record<ArtifactKind, Artifact>> = {};
    for (const each of artifacts)
      if (needed.includes(each.kind)) read[each.kind as ArtifactKind] = await this.#input(each);
    return read;
  }

  async #input(sent: SentArtifact): Promise<Artifact> {
    const { artifacts, server } = this.parts;
    const artifact = await artifacts.read(sent);
    const faults = Object.entries(artifact.tensors).map(([name, { shape }]) => {
      const fault = shapeFault(shape, server.limits);
      return fault && `tensor "${name}": ${fault}`;
    });
    const fault = faults.find(Boolean) ?? recordFault(artifact, server.limits);
    if (fault === undefined) return artifact;
    throw new QeditError("QEDIT_E_ARTIFACT", `Cannot use ${sent.file.uri.slice(0, 200)} as ${sent.kind}: ${fault}`);
  }

  async #computed(
    work: StageWork,
    request: StageRequest,
    { content, ahead }: { content: string; ahead: readonly StageName[] },
  ): ReturnType<StageStore["keep"]> {
    const { service } = this.parts.server;
    return this.#inTurn(work, request, ahead, async (originals, call) => {
      const artifact = await makeArtifact(work, originals, { service, ...call });
      return this.parts.artifacts.keep(content, artifact, call.seconds());
    });
  }

  async #decoded(work: StageWork, request: StageRequest, content: string): ReturnType<ClaimStore["keep"]> {
    const { service } = this.parts.server;
    return this.#inTurn(work, request, ["decode"], async (originals, call) => {
      const picture = await makePicture(work, originals, { service, ...call });
      const { bytes, result } = await pictureResult(picture, {
        encoding: encodingOf(work.values),
        seed: seedIn(work.artifacts.samples!),
        device: deviceNames(service),
        seconds: { ...request.seconds, decode: call.seconds() },
      });
      return this.parts.store.keep(content, storedResult(result), bytes);
    });
  }

  // Pictures are decoded when it is their turn: decoded they are large.
  async #inTurn<T>(
    work: StageWork,
    { envelope: { job_id: id } }: StageRequest,
    ahead: readonly StageName[],
    compute: (originals: Originals, call: { emit: Emit; signal: AbortSignal; seconds: () => number }) => Promise<T>,
  ): Promise<T> {
    const { server, ending: signal, log } = this.parts;
    const { service, limits } = server;
    const lazy = new LazyPictures(async () => ({ ...work, parameters: {} }), limits).lazy;
    let seconds = 0;
    const emit: Emit = (event) => {
      if (event.kind === "end") seconds = Number(event.seconds.toFixed(3));
      this.#progress(id, event);
    };
    try {
      return await service.alone(async () => {
        if (server.phase === "draining") throw serverStopping();
        const originals = { pictures: await lazy.pictures(), mask: await lazy.mask() };
        await checkStage(work, originals, { service, ahead });
        const made = await compute(originals, { emit, signal, seconds: () => seconds });
        log("info", `job ${id}: ${work.stage} computed in ${seconds} s`, { job: id, stage: work.stage, seconds });
        return made;
      });
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

  #request(next: StageName, request: StageRequest, message: KafkaMessage, done: Done): ProducedMessage {
    const { envelope, images, mask, parameters } = request;
    const { artifacts, settings, seconds } = done;
    const onward = { ...envelope, cursor: envelope.cursor + 1, attempt: 1 };
    const sent = { images, mask, parameters, artifacts, settings, seconds };
    return {
      topic: requestTopic(next),
      key: envelope.job_id,
      value: this.parts.codec.encode(`${next}.request`, { envelope: onward, ...sent }),
      ...traceHeaders(traceOf(envelope, message)),
    };
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

// As in a whole edit: the picture is decoded with the VAE that its pictures were encoded with.
function refuseOtherVae(
  { stage, models, artifacts }: StageWork,
  { envelope: { workflow, cursor } }: StageRequest,
): void {
  const encoded = artifacts.samples?.info.weights["vae"];
  if (stage !== "decode" || encoded === undefined || !workflow.slice(0, cursor).includes("encode-image")) return;
  if (encoded === models.vae!.identity) return;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot decode with ${models.vae!.name}: the pictures were encoded with another VAE (${encoded.slice(0, 16)}…, found ${models.vae!.identity.slice(0, 16)}…)`,
    { hint: "Give the workers of encode-image and decode the same VAE" },
  );
}

// Empty for samples that do not say it.
function seedIn({ info: { settings } }: Artifact): string {
  const seed = (settings["sample"] as { readonly seed?: unknown } | undefined)?.seed;
  return typeof seed === "string" && /^\d{1,20}$/.test(seed) ? seed : "";
}
