// The server behind every door: one edit service whose engine is a child process, its open model files, and the jobs. It starts jobs, follows
// them by their events, stores what must survive the process, and ends in order.

import { encodingOf, refuseOtherQuality } from "../edit/finish/picture-encoding.js";
import { type BaseSettings, type EditRequest, readRequest } from "../edit/request/edit-request.js";
import { drawSeed } from "../edit/resolve/draw-seed.js";
import { type ModelLibrary, modelLibrary } from "../edit/resolve/model-library.js";
import { resolveEdit } from "../edit/resolve/resolve-edit.js";
import { refuseNoPicture } from "../edit/resolve/without-picture.js";
import type { ServiceEvent } from "../edit/service/job.js";
import { deviceNames, type EditService, openService, type ServiceOptions } from "../edit/service/service.js";
import { QeditError } from "../std/errors.js";
import { Admission } from "./admission.js";
import { IdempotencyKeys } from "./idempotency-keys.js";
import { pictureJob, type TensorRequest, tensorJob } from "./job-edits.js";
import { type AcceptedJob, JobRunner, serverStopping } from "./job-runner.js";
import { type FoundJob, type JobStore, openJobStore } from "./job-store.js";
import { isFinal } from "./job-types.js";
import { LazyPictures } from "./lazy-pictures.js";
import { checkCount, checkWork, type ServerLimits } from "./limits.js";
import { bytesOf, bytesOfTensors, digestOf, digestOfParts, inputOf } from "./request-identity.js";
import { type ResultLimits, sweepResults } from "./result-sweep.js";
import type { ServerEvent } from "./server-event.js";
import { type JobEnd, ServerJob } from "./server-job.js";
import { type Load, StageTurns } from "./stage-turns.js";

/** Options of the server. */
export interface EditServerOptions extends ResultLimits {
  /** The edit service; its events also go to `emit`. */
  readonly service: Omit<ServiceOptions, "isolation" | "signal" | "emit">;
  readonly base: BaseSettings;
  readonly limits: ServerLimits;
  /** Folder of jobs and results. */
  readonly state: string;
  readonly observe: (event: ServerEvent) => void;
}

/** How a request is taken. */
export interface SubmitOptions {
  /** Whether the job survives the process, and is listed. */
  readonly isDurable?: boolean;
  /** Whether previews are made while it samples. */
  readonly hasPreviews?: boolean;
  /** Idempotency-Key: a second request with it gets the first one's job. */
  readonly key?: string | undefined;
  /** Milliseconds that the networks stay open after it; undefined: as the server keeps them. */
  readonly keepAlive?: number | undefined;
  /** The trace that the request belongs to, as W3C's header. */
  readonly traceparent?: string | undefined;
  /** Whether the request may name files of this machine by paths. */
  readonly hasPaths?: boolean;
}

/** An edit that nothing refuses. */
export interface PreparedJob {
  /** Queues it. Throws QEDIT_E_BUSY, and may be called again then; QEDIT_E_TERMINATED. */
  readonly start: () => Promise<ServerJob>;
}

/** The server; whoever opened it closes it. */
export interface EditServer {
  readonly service: EditService;
  readonly library: ModelLibrary;
  readonly base: BaseSettings;
  readonly limits: ServerLimits;
  readonly device: string;
  /** Draining: it takes nothing more, and ends. */
  readonly phase: "starting" | "ready" | "draining";
  /** Takes an edit. Throws QEDIT_E_BUSY, QEDIT_E_TERMINATED, and what is refused before anything is computed. */
  readonly submit: (request: EditRequest, options?: SubmitOptions) => Promise<ServerJob>;
  /** As submit, for an edit that is queued later. */
  readonly prepare: (request: EditRequest, options: Pick<SubmitOptions, "traceparent">) => Promise<PreparedJob>;
  /** Takes an edit by tensors; its result is raw pixels. Throws as submit. */
  readonly submitTensors: (edit: TensorRequest) => Promise<ServerJob>;
  readonly job: (id: string) => ServerJob | undefined;
  /** Jobs that are known, in the order of their acceptance. */
  readonly jobs: () => readonly ServerJob[];
  /** A picture that was sent with a job: its number from 1, or the mask. */
  readonly input: (job: ServerJob, which: number | "mask") => Promise<Uint8Array | undefined>;
  /** Jobs that wait, and that run. */
  readonly load: () => Load;
  /** Single stages, which wait for their turn among the jobs. */
  readonly stages: StageTurns;
  /** Says that it is ready; jobs of an earlier process run from now on. */
  readonly ready: () => Promise<void>;
  /** Takes nothing more; waits for the running job, which after `grace` milliseconds stops between two steps. Durable jobs stay stored. */
  readonly drain: (grace: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Milliseconds between two looks for results that are too old. */
const SWEEP_INTERVAL = 600_000;

/** Opens the server. Throws QEDIT_E_USAGE, QEDIT_E_DEVICE, QEDIT_E_BUSY for a state folder in use, QEDIT_E_IO. */
export async function openEditServer(options: EditServerOptions): Promise<EditServer> {
  const { observe } = options;
  const store = await openJobStore(options.state, (text) => observe({ kind: "warning", text }));
  const server = new Server(options, store);
  try {
    await server.open();
  } catch (error) {
    await store.close();
    throw error;
  }
  return server;
}

class Server implements EditServer {
  service!: EditService;
  device = "";
  readonly library: ModelLibrary;
  readonly base: BaseSettings;
  readonly limits: ServerLimits;
  phase: EditServer["phase"] = "starting";
  readonly #jobs = new Map<string, ServerJob>();
  readonly #keys = new IdempotencyKeys();
  #sweep: NodeJS.Timeout | undefined;

  readonly stages: StageTurns;
  readonly #runner: JobRunner;
  readonly #admission: Admission;

  constructor(
    private readonly options: EditServerOptions,
    private readonly store: JobStore,
  ) {
    this.base = options.base;
    this.limits = options.limits;
    this.library = modelLibrary(options.service.remote?.elsewhere);
    const { keepAlive = 0 } = options.service;
    const onStart = (job: ServerJob) => this.service.keepFor(job.parts.keepAlive ?? keepAlive);
    const onLeave = (job: ServerJob) => {
      if (!job.isDurable) this.#jobs.delete(job.id);
      // Also those that it did not need, for its results were in the cache.
      if (job.parts.keepAlive === 0) void this.service.closeIdle().catch(() => {});
    };
    this.#runner = new JobRunner({ store, observe: options.observe, service: () => this.service, onStart, onLeave });
    this.#admission = new Admission(this.#runner, this.limits);
    this.stages = new StageTurns(() => this.service, options.observe);
  }

  async open(): Promise<void> {
    this.service = await openService({
      ...this.options.service,
      isolation: "process",
      signal: new AbortController().signal,
      emit: (event) => this.#runner.onEvent(event),
      onRestart: (reason) => this.options.observe({ kind: "restart", reason }),
    });
    this.device = deviceNames(this.service);
    try {
      // Before anybody asks: a request that is sent again must find the job of the first one.
      for (const { job, end } of this.store.found) this.#restore(job, end);
      await this.#sweepResults();
    } catch (error) {
      // The engine's process would keep this one alive.
      await this.service.close();
      throw error;
    }
    this.#sweep = setInterval(() => void this.#sweepResults().catch(() => {}), SWEEP_INTERVAL).unref();
  }

  readonly ready = async () => {
    this.phase = "ready";
    for (const { job, end } of this.store.found) if (!end && !this.#isDraining()) await this.#restart(job);
  };

  readonly submitTensors = async (edit: TensorRequest): Promise<ServerJob> => {
    this.#refuseWhileDraining();
    const bytes = bytesOfTensors(edit.tensors);
    return this.#admission.take(bytes, () => this.#acceptTensors(edit, bytes));
  };

  readonly submit = async (request: EditRequest, options: SubmitOptions = {}): Promise<ServerJob> => {
    this.#refuseWhileDraining();
    const { key } = options;
    if (key === undefined) return this.#accept(request, options);
    const digest = await digestOf(request, options);
    this.#refuseWhileDraining();
    return this.#keys.job(key, digest, () => this.#accept(request, options));
  };

  readonly prepare: EditServer["prepare"] = async (request, options) => {
    this.#refuseWhileDraining();
    const accepted = await this.#checked(request, options);
    // Decoded they are large, and its turn may come in minutes.
    accepted.release();
    const bytes = bytesOf(request);
    return { start: () => this.#admission.take(bytes, async () => this.#start(accepted, bytes)) };
  };

  readonly job = (id: string) => this.#jobs.get(id);

  readonly jobs = () => [...this.#jobs.values()];

  readonly input = async (job: ServerJob, which: number | "mask") => {
    if (!job.isDurable) return undefined;
    const { inputs, mask, parameters } = job.parts;
    const { pictures, mask: sent } = await this.store.request({ id: job.id, inputs, mask, parameters });
    return which === "mask" ? sent?.bytes : pictures[which - 1]?.bytes;
  };

  readonly load = () => this.#runner.load();

  readonly drain = async (grace: number) => {
    this.phase = "draining";
    clearInterval(this.#sweep);
    await this.#runner.drain(grace);
  };

  readonly close = async () => {
    clearInterval(this.#sweep);
    await this.service.close();
    await this.#runner.settled();
    await this.store.close();
  };

  #accept(request: EditRequest, options: SubmitOptions): Promise<ServerJob> {
    const bytes = bytesOf(request);
    return this.#admission.take(bytes, () => this.#accepted(request, { ...options, bytes }));
  }

  async #accepted(request: EditRequest, { bytes, ...options }: SubmitOptions & { bytes: number }): Promise<ServerJob> {
    const { isDurable = false, hasPreviews = false, key, hasPaths = false, traceparent } = options;
    const accepted = await this.#checked(request, options);
    if (!isDurable) return this.#start(accepted, bytes);
    const { job } = accepted;
    const { id, created } = job;
    const { inputs, mask } = job.parts;
    const stored = {
      ...{ id, created, parameters: request.parameters, inputs, seed: accepted.seed, hasPreviews, hasPaths },
      ...(mask && { mask }),
      ...(key !== undefined && { key }),
      ...(traceparent !== undefined && { traceparent }),
    };
    await this.store.accept(stored, request);
    accepted.pictures.readAgain(() => this.store.request({ id, inputs, mask, parameters: request.parameters }));
    this.#jobs.set(id, job);
    // One that is stored is done after the next start. The pictures of a durable job are read again from the folder.
    if (!this.#isDraining()) this.#runner.start(accepted, 0);
    return job;
  }

  async #checked(
    request: EditRequest,
    { isDurable = false, hasPreviews = false, hasPaths = false, traceparent, keepAlive }: SubmitOptions,
  ): Promise<AcceptedJob & { readonly pictures: LazyPictures }> {
    checkCount(request.pictures.length, this.limits);
    const inputs = await Promise.all(request.pictures.map(inputOf));
    const mask = request.mask && (await inputOf(request.mask));
    const job = this.#newJob({ parameters: request.parameters, inputs, mask, isDurable, traceparent, keepAlive });
    const pictures = new LazyPictures(async () => request, this.limits);
    return { ...(await this.#resolve(job, request, { hasPaths, pictures })), hasPreviews, pictures };
  }

  #start(accepted: AcceptedJob, bytes: number): ServerJob {
    this.#refuseWhileDraining();
    this.#jobs.set(accepted.job.id, accepted.job);
    this.#runner.start(accepted, bytes);
    return accepted.job;
  }

  async #acceptTensors(edit: TensorRequest, bytes: number): Promise<ServerJob> {
    const job = this.#newJob({ parameters: {}, inputs: [], mask: undefined, isDurable: false });
    await this.#admission.inTurn(() => this.service.check(edit));
    this.#refuseWhileDraining();
    this.#jobs.set(job.id, job);
    this.#runner.start({ ...tensorJob(edit), job, hasPreviews: false }, bytes);
    return job;
  }

  #newJob(
    parts: Pick<
      ServerJob["parts"],
      "id" | "created" | "parameters" | "inputs" | "mask" | "isDurable" | "traceparent" | "keepAlive"
    >,
  ): ServerJob {
    return new ServerJob({
      ...parts,
      position: (job) => this.#runner.position(job),
      cancel: (job) => this.#runner.cancel(job),
    });
  }

  async #resolve(
    job: ServerJob,
    request: Pick<EditRequest, "parameters">,
    { hasPaths, pictures }: { hasPaths: boolean; pictures: LazyPictures },
  ): Promise<Omit<AcceptedJob, "hasPreviews">> {
    const emit = (event: ServiceEvent) => job.progress(event);
    const unresolved = await readRequest(request, { base: this.base, library: this.library, hasPaths, emit });
    await refuseNoPicture(job.parts.inputs.length, unresolved.settings);
    const { values, ...edit } = await resolveEdit(unresolved, this.library);
    refuseOtherQuality(encodingOf(values).format, unresolved.given);
    checkWork(edit.settings, this.limits);
    const { settings, isDrawn } = drawSeed(edit.settings, emit);
    const resolved = { ...edit, settings };
    await this.#admission.inTurn(async () => {
      await this.service.check({ resolved, ...pictures.lazy });
      // One that runs at once needs no second decoding.
      if (this.#admission.waiting > 1) pictures.release();
    });
    return { job, ...pictureJob({ resolved, values, isDrawn, pictures }) };
  }

  // A job of an earlier process.
  #restore(stored: FoundJob["job"], end: JobEnd | undefined): void {
    const { id, created, parameters, inputs, mask, traceparent } = stored;
    const job = this.#newJob({ id, created, parameters, inputs, mask, isDurable: true, traceparent });
    this.#jobs.set(id, job);
    if (stored.key !== undefined) this.#keys.restore(stored.key, digestOfParts(stored), job);
    if (end === undefined) return;
    if (end.state === "completed" && end.result) job.complete(end, () => this.store.result(end.result!.sha256));
    else
      job.fail(new QeditError(end.error?.code ?? "QEDIT_E_INTERNAL", end.error?.message ?? "It failed"), "failed", end);
  }

  // Queues a job that an earlier process accepted and did not end.
  async #restart(stored: FoundJob["job"]): Promise<void> {
    const { id, parameters, hasPreviews, hasPaths } = stored;
    const job = this.#jobs.get(id);
    // It may have been cancelled meanwhile.
    if (job === undefined || isFinal(job.state)) return;
    const pictures = new LazyPictures(() => this.store.request(stored), this.limits);
    try {
      const seeded = { parameters: { ...parameters, seed: stored.seed } };
      const accepted = { ...(await this.#resolve(job, seeded, { hasPaths, pictures })), hasPreviews };
      if (!isFinal(job.state) && !this.#isDraining()) this.#runner.start(accepted, 0);
    } catch (error) {
      await this.#runner.fail(job, error);
    }
  }

  async #sweepResults(): Promise<void> {
    const removed = await sweepResults(this.jobs(), this.store, this.options);
    for (const { id } of removed) this.#jobs.delete(id);
    await this.#keys.forget(removed);
  }

  // A method: the compiler believes that a field has not changed meanwhile.
  #isDraining(): boolean {
    return this.phase === "draining";
  }

  #refuseWhileDraining(): void {
    if (this.#isDraining()) throw serverStopping();
  }
}
