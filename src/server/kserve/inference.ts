// Inference by the KServe V2 protocol ("Open Inference Protocol"), as both of its doors call it: models, requests, what is open, statistics.
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol

import type { InferAnswer, InferRequest } from "../../kserve/infer-request.js";
import { VERSION } from "../../kserve/infer-request.js";
import { V2Error } from "../../kserve/v2-error.js";
import type { V2Tensor } from "../../kserve/v2-tensor.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { shown } from "../../std/foreign-text.js";
import type { EditServer } from "../edit-server.js";
import { serverStopping } from "../job-runner.js";
import { warmUp } from "../warm-up.js";
import {
  ENSEMBLES,
  type EnsembleSpec,
  ensembleNames,
  ensembleSpec,
  isEnsemble,
  USUAL_ENSEMBLES,
} from "./ensemble-specs.js";
import type { ModelCall } from "./model-call.js";
import { checkInputs } from "./model-inputs.js";
import { MODEL_RUNS } from "./model-runs.js";
import { type ModelSpec, modelSpecs, type OwnSpec, refuseUnknownOutputs } from "./model-specs.js";
import { type RequestClock, Statistics } from "./model-statistics.js";
import { runTensorEdit } from "./tensor-runs.js";
import { failureOfV2 } from "./v2-failure.js";

/** How a request is followed. */
export interface InferCall {
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** An entry of the repository's index. */
export interface IndexEntry {
  readonly name: string;
  readonly version: string;
  readonly state: "READY" | "UNAVAILABLE";
  readonly reason: string;
}

/** What the protocol has beyond its core, by Triton's names. */
export const EXTENSIONS = ["binary_tensor_data", "parameters", "model_configuration", "model_repository", "statistics"];

/** Bytes of inputs that may wait in memory. */
const WAITING_BYTES = 1024 ** 3;

/** Networks that only this model uses or that it uses most; a whole edit uses all. */
const NETWORKS: Readonly<Record<string, readonly string[]>> = {
  encode_image: ["vae-encoder"],
  encode_prompt: ["vision-tower", "language-model"],
  sample: ["transformer"],
  decode: ["vae-decoder"],
};

/** Inference on a server. */
export class Inference {
  readonly #specs: readonly OwnSpec[];
  readonly #statistics = new Statistics();
  /** Stages that wait for their turn or run. */
  #waiting = 0;
  #waitingBytes = 0;
  /** Stops stages when the server ends. */
  readonly #ending = new AbortController();
  #idle = () => {};

  constructor(readonly server: EditServer) {
    this.#specs = modelSpecs(server.limits);
  }

  /** Whether requests are answered now. */
  get isReady(): boolean {
    return this.server.phase === "ready";
  }

  /** A model by its name. Throws V2Error 404 for an unknown one and for another version, and for one that needs a model which the server has not. */
  async spec(name: string, version = ""): Promise<OwnSpec | EnsembleSpec> {
    await this.#refuseUnknown(name, version);
    const kind = ENSEMBLES.get(name);
    return kind === undefined ? this.#specs.find((each) => each.name === name)! : ensembleSpec(kind, this.server);
  }

  /** Whether a model answers now. Throws V2Error 404 as spec. */
  async isModelReady(name: string, version = ""): Promise<boolean> {
    await this.#refuseUnknown(name, version);
    const kind = ENSEMBLES.get(name);
    return this.isReady && (kind === undefined || (await this.#faultOf(ensembleSpec(kind, this.server))) === undefined);
  }

  /** Reads a request for a model, and answers it. Throws V2Error, QeditError. */
  async infer(
    { name, version }: { readonly name: string; readonly version?: string | undefined },
    read: (spec: ModelSpec) => InferRequest | Promise<InferRequest>,
    call: InferCall,
  ): Promise<{ readonly request: InferRequest; readonly answer: InferAnswer }> {
    await this.#refuseUnknown(name, version);
    const clock = this.#statistics.start(name);
    try {
      this.refuseUnready();
      const spec = await this.spec(name, version);
      const request = await read(spec);
      const answer = await this.#answer(spec, { request, clock, call });
      clock.end("success");
      return { request, answer };
    } catch (error) {
      clock.end("fail");
      throw error;
    }
  }

  /** The models, as a repository lists them. */
  async index({ isReadyOnly }: { isReadyOnly: boolean }): Promise<readonly IndexEntry[]> {
    const fault = this.isReady ? undefined : `the server is ${this.server.phase}`;
    const names = ensembleNames(this.server);
    const missing = fault ?? (await this.#faultOf(names));
    const ensembles = await names.catch(() => USUAL_ENSEMBLES);
    const entry = (name: string, reason: string | undefined): IndexEntry => ({
      ...{ name, version: VERSION, state: reason === undefined ? "READY" : "UNAVAILABLE", reason: reason ?? "" },
    });
    const own = this.#specs.map(({ name }) => entry(name, fault));
    const all = [...own, ...ensembles.map((name) => entry(name, missing))];
    return isReadyOnly ? all.filter(({ state }) => state === "READY") : all;
  }

  /** The statistics of one model, or of all. Throws V2Error 404. */
  async statistics(name: string | undefined, version?: string) {
    if (name === undefined) return this.#statistics.all(await this.#names());
    await this.#refuseUnknown(name, version);
    return [this.#statistics.of(name)];
  }

  /** Opens the networks of a published model before they are asked for. Throws V2Error, QeditError. */
  async load(name: string, { model, ...others }: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#refuseUnknown(name);
    refuseParameters(others, 'load takes "model", the name of a model of /v1/models');
    if (model !== undefined && (typeof model !== "string" || model === ""))
      throw new V2Error(400, 'Cannot use the parameter "model": a name is wanted');
    this.refuseUnready();
    await warmUp(this.server, model as string | undefined);
  }

  /** Closes the networks of a model that no job uses; they are opened again when they are asked for. Throws V2Error. */
  async unload(name: string, { unload_dependents: _, ...others }: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#refuseUnknown(name);
    refuseParameters(others, "unload takes none");
    await this.server.service.closeIdle(NETWORKS[name]);
  }

  /** Throws while the server starts or ends. */
  refuseUnready(): void {
    if (this.server.phase === "draining") throw serverStopping();
    if (!this.isReady) throw new V2Error(503, "The server is starting: ask again soon");
  }

  /** Waits for the stage that runs, which after `grace` milliseconds stops between two steps; those that wait are refused. */
  async drain(grace: number): Promise<void> {
    const late = setTimeout(() => this.#ending.abort(serverStopping()), grace);
    while (this.#waiting > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    clearTimeout(late);
  }

  async #answer(
    spec: OwnSpec | EnsembleSpec,
    { request, clock, call }: { request: InferRequest; clock: RequestClock; call: InferCall },
  ): Promise<InferAnswer> {
    checkInputs(spec, request.tensors);
    if (request.wanted !== undefined) refuseUnknownOutputs(spec, request.wanted);
    using stopping = stopSignal(call.signal, request.timeout);
    const signal = AbortSignal.any([stopping.signal, this.#ending.signal]);
    const modelCall: ModelCall = {
      ...{ server: this.server, request, signal, clock },
      emit: (event) => call.onProgress?.(event),
      inTurn: (stage, work) => this.#inTurn(work, { stage, request, signal, clock }),
    };
    const work = isEnsemble(spec) ? runTensorEdit(modelCall, spec) : MODEL_RUNS[spec.name](modelCall);
    const { outputs, parameters = {} } = await work.catch((error: unknown) => {
      // Why it was stopped is known here.
      throw signal.aborted ? signal.reason : error;
    });
    return { id: request.id, model: spec.name, outputs: picked(outputs, request, spec), parameters };
  }

  // Those of the server's model, or what every model has where it is not there: each says why it does not answer.
  async #names(): Promise<readonly string[]> {
    return [...this.#specs.map(({ name }) => name), ...(await ensembleNames(this.server).catch(() => USUAL_ENSEMBLES))];
  }

  async #refuseUnknown(name: string, version = ""): Promise<void> {
    const isOwn = this.#specs.some((each) => each.name === name);
    const names = isOwn ? [] : await this.#names();
    if (!isOwn && !names.includes(name))
      throw new V2Error(404, `There is no model "${shown(name)}": there are ${names.join(", ")}`);
    if (version !== "" && version !== VERSION)
      throw new V2Error(404, `${name} has no version "${shown(version)}": it has version ${VERSION}`);
  }

  // Why the models of an exported folder do not answer; undefined if they do.
  async #faultOf(found: Promise<unknown>): Promise<string | undefined> {
    try {
      await found;
      return undefined;
    } catch (error) {
      return failureOfV2(error).text;
    }
  }

  // A stage waits behind the jobs and stages that came before it. One that nobody waits for any more counts until its turn has passed: its
  // tensors are in memory.
  #inTurn<T>(work: () => Promise<T>, { stage, request, signal, clock }: TurnOf): Promise<T> {
    const bytes = bytesOf(request);
    if (this.#waiting >= this.server.limits.queue || this.#waitingBytes + bytes > WAITING_BYTES)
      throw new QeditError("QEDIT_E_BUSY", `The queue is full: ${this.#waiting} stages wait`, {
        hint: "Send it again later",
      });
    this.#waiting += 1;
    this.#waitingBytes += bytes;
    clock.phase("queue");
    const turn = this.server.stages
      .take(
        stage,
        async () => {
          signal.throwIfAborted();
          this.refuseUnready();
          clock.phase("compute_input");
          return work();
        },
        signal,
      )
      .finally(() => {
        this.#waiting -= 1;
        this.#waitingBytes -= bytes;
        if (this.#waiting === 0) this.#idle();
      });
    return unlessAborted(turn, signal);
  }
}

interface TurnOf extends Pick<ModelCall, "request" | "signal" | "clock"> {
  readonly stage: StageName;
}

/** The refusal of a call that nobody waits for. */
function cancelled(): QeditError {
  return new QeditError("QEDIT_E_INTERRUPTED", "Cancelled");
}

// The outputs that are wanted, in their order.
function picked(
  outputs: readonly V2Tensor[],
  { wanted }: InferRequest,
  { name: model }: ModelSpec,
): readonly V2Tensor[] {
  if (wanted === undefined) return outputs;
  return wanted.map(({ name }) => {
    const found = outputs.find((each) => each.name === name);
    if (found !== undefined) return found;
    throw new V2Error(400, `${model} made no "${name}": it made ${outputs.map((each) => each.name).join(", ")}`);
  });
}

function refuseParameters(parameters: Readonly<Record<string, unknown>>, hint: string): void {
  const [name] = Object.keys(parameters);
  if (name !== undefined) throw new V2Error(400, `The parameter "${shown(name)}" is not supported: ${hint}`);
}

function bytesOf({ tensors }: InferRequest): number {
  const lengths = [...tensors.values()].map((tensor) =>
    tensor.datatype === "BYTES" ? tensor.elements.reduce((sum, each) => sum + each.length, 0) : tensor.data.length,
  );
  return lengths.reduce((sum, length) => sum + length, 0);
}

// The caller's signal with our reason, and the request's own timeout.
function stopSignal(caller: AbortSignal, timeout: number | undefined): Disposable & { readonly signal: AbortSignal } {
  const stop = new AbortController();
  const leave = () => stop.abort(cancelled());
  if (caller.aborted) leave();
  caller.addEventListener("abort", leave, { once: true });
  const late = () => stop.abort(new V2Error(504, `Stopped after the request's timeout of ${timeout} ms`));
  const timer = timeout === undefined ? undefined : setTimeout(late, timeout);
  return {
    signal: stop.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      caller.removeEventListener("abort", leave);
    },
  };
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason as Error);
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}
