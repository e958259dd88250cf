// The gRPC door: inference.GRPCInferenceService as Triton's clients call it, and grpc.health.v1.
import { setTimeout as sleep } from "node:timers/promises";
import {
  type handleUnaryCall,
  loadPackageDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceDefinition,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { HealthImplementation } from "grpc-health-check";
import { CODE_HEADER } from "../../kserve/client/v2-client.js";
import {
  type InferParameter,
  type ModelInferRequest,
  type ModelInferResponse,
  readMessage,
  readParameterMap,
  writeMessage,
  writeProgress,
} from "../../kserve/infer-messages.js";
import { PROTO_FILE } from "../../kserve/proto-file.js";
import { QeditError } from "../../std/errors.js";
import { qeditVersion } from "../../std/version.js";
import { type Address, written } from "../addresses.js";
import { keyCheck } from "../api-key.js";
import { asJsonKey, HttpError } from "../http/http-error.js";
import type { Listener } from "../http/listen.js";
import { EXTENSIONS, type Inference } from "../kserve/inference.js";
import { configOf, type ModelSpec, metadataOf } from "../kserve/model-specs.js";
import { failureOfV2 } from "../kserve/v2-failure.js";
import { lenient, refuseUnreadable } from "./unreadable-messages.js";

/** Options of the door. */
export interface GrpcOptions extends Address {
  /** The API key that calls must carry; undefined: none. */
  readonly key: string | undefined;
  /** Receives each call after its answer, for the log; `error` if it failed. */
  readonly onAnswer?: (answer: GrpcRecord) => void;
}

/** A call and its answer, for the log. */
export interface GrpcRecord {
  readonly method: string;
  /** Name of the gRPC status. */
  readonly status: string;
  readonly seconds: number;
  readonly error?: unknown;
}

/** Calls that need no key: probes of an orchestrator. */
const OPEN_METHODS = ["ServerLive", "ServerReady"];

/** Milliseconds between two looks at the server's phase, for grpc.health.v1. */
const PHASE_INTERVAL = 50;

/** Bytes of metadata of a call; keys and traces take some hundreds. */
const MOST_METADATA = 16 * 1024;
const MOST_STREAMS = 256;
/** Milliseconds that a connection stays open without a call. */
const IDLE_TIMEOUT = 120_000;
/** Bytes beside the tensors of a message. */
const MESSAGE_SLACK = 1024 ** 2;

/** Milliseconds in which the last answers are sent when it closes. */
const LAST_ANSWERS = 1_000;

const SERVICE = "inference.GRPCInferenceService";

/** Calls that are being answered. */
interface Calls {
  underWay: number;
}

/** What a call gives, and what it is called with. */
type Answer<Request> = (request: Request, call: { readonly signal: AbortSignal }) => unknown;

interface ModelRequest {
  readonly name: string;
  readonly version: string;
}

interface RepositoryRequest {
  readonly model_name: string;
  readonly parameters: Readonly<Record<string, InferParameter>>;
}

/** Opens the door; port 0 takes a free one. Throws QEDIT_E_IO. */
export async function startGrpc(inference: Inference, options: GrpcOptions): Promise<Listener> {
  const { body } = inference.server.limits;
  const calls: Calls = { underWay: 0 };
  const server = new Server({
    "grpc.max_receive_message_length": body + MESSAGE_SLACK,
    "grpc.max_send_message_length": -1,
    "grpc.max_metadata_size": MOST_METADATA,
    "grpc.max_concurrent_streams": MOST_STREAMS,
    "grpc.max_connection_idle_ms": IDLE_TIMEOUT,
  });
  server.addService(serviceDefinition(), {
    ...unaryHandlers(inference, { ...options, calls }),
    ModelStreamInfer: streamHandler(inference, { ...options, calls }),
  });
  const health = openHealth(inference, server);
  const address = { host: options.host, port: await bind(server, options) };
  return {
    address,
    underWay: () => calls.underWay,
    stop() {
      health.close();
      server.tryShutdown(() => {});
    },
    async close() {
      health.close();
      // What was answered is sent; clients that watch the health keep their calls open.
      const sent = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      await Promise.race([sent, sleep(LAST_ANSWERS, undefined, { ref: false })]);
      server.forceShutdown();
    },
  };
}

function serviceDefinition(): ServiceDefinition {
  const definition = loadSync(PROTO_FILE, { keepCase: true, longs: String, enums: String, defaults: true });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: { readonly GRPCInferenceService: { readonly service: ServiceDefinition } };
  };
  const { service } = inference.GRPCInferenceService;
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [name, lenient(method)]),
  ) as ServiceDefinition;
}

function answersOf(inference: Inference): Readonly<Record<string, Answer<never>>> {
  const ofModel =
    (answer: (spec: ModelSpec) => unknown): Answer<ModelRequest> =>
    async ({ name, version }) =>
      answer(await inference.spec(name, version));
  return {
    ServerLive: () => ({ live: true }),
    ServerReady: () => ({ ready: inference.isReady }),
    ModelReady: async ({ name, version }: ModelRequest) => ({ ready: await inference.isModelReady(name, version) }),
    ServerMetadata: () => ({ name: "qedit", version: qeditVersion(), extensions: EXTENSIONS }),
    ModelMetadata: ofModel(metadataOf),
    ModelConfig: ofModel((spec) => ({ config: configOf(spec) })),
    ModelStatistics: async ({ name, version }: ModelRequest) => ({
      model_stats: await inference.statistics(name === "" ? undefined : name, version),
    }),
    RepositoryIndex: async ({ ready }: { readonly ready: boolean }) => ({
      models: await inference.index({ isReadyOnly: ready }),
    }),
    async RepositoryModelLoad({ model_name: name, parameters }: RepositoryRequest) {
      await inference.load(name, readParameterMap(parameters));
      return {};
    },
    async RepositoryModelUnload({ model_name: name, parameters }: RepositoryRequest) {
      await inference.unload(name, readParameterMap(parameters));
      return {};
    },
    async ModelInfer(message: ModelInferRequest, { signal }) {
      const { model_name: name = "", model_version: version } = message;
      const { answer } = await inference.infer({ name, version }, () => readMessage(message), { signal });
      return writeMessage(answer);
    },
  };
}

function unaryHandlers(
  inference: Inference,
  { key, onAnswer, calls }: GrpcOptions & { readonly calls: Calls },
): Readonly<Record<string, handleUnaryCall<never, unknown>>> {
  const check = keyChecked(key);
  const handlers = Object.entries(answersOf(inference)).map(([method, answer]) => {
    const handler: handleUnaryCall<never, unknown> = async (call: ServerUnaryCall<never, unknown>, respond) => {
      const start = performance.now();
      const record = (name: string, error?: unknown) =>
        onAnswer?.({
          method,
          status: name,
          seconds: (performance.now() - start) / 1000,
          ...(error !== undefined && { error }),
        });
      calls.underWay += 1;
      try {
        if (!OPEN_METHODS.includes(method)) check(call.metadata);
        refuseUnreadable(call.request);
        const response = await answer(call.request, { signal: cancelSignal(call) });
        record("OK");
        respond(null, response);
      } catch (error) {
        const { name, ...failed } = statusOf(error);
        record(name, error);
        respond(failed);
      } finally {
        calls.underWay -= 1;
      }
    };
    return [method, handler] as const;
  });
  return Object.fromEntries(handlers);
}

/** The stream's type in both directions. */
type InferStream = ServerDuplexStream<
  ModelInferRequest,
  { readonly error_message?: string; readonly infer_response: ModelInferResponse | { readonly id: string } }
>;

// Requests are answered one after the other, so that a client that sends many has no more than one in memory.
function streamHandler(
  inference: Inference,
  { key, onAnswer, calls }: GrpcOptions & { readonly calls: Calls },
): (stream: InferStream) => Promise<void> {
  const check = keyChecked(key);
  return async (stream) => {
    const signal = cancelSignal(stream);
    try {
      check(stream.metadata);
      // The stream is still written to when all was read.
      for await (const message of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<ModelInferRequest>) {
        const start = performance.now();
        refuseUnreadable(message);
        calls.underWay += 1;
        const name = await answerOne(inference, message, { stream, signal }).finally(() => (calls.underWay -= 1));
        onAnswer?.({ method: "ModelStreamInfer", status: name, seconds: (performance.now() - start) / 1000 });
        if (signal.aborted) return;
      }
      stream.end();
    } catch (error) {
      if (signal.aborted) return;
      const { name, ...failed } = statusOf(error);
      onAnswer?.({ method: "ModelStreamInfer", status: name, seconds: 0, error });
      stream.emit("error", failed);
    }
  };
}

// Gives the name of its status.
async function answerOne(
  inference: Inference,
  message: ModelInferRequest,
  { stream, signal }: { stream: InferStream; signal: AbortSignal },
): Promise<string> {
  const { model_name: name = "", model_version: version, id = "" } = message;
  const call = {
    signal,
    onProgress(event: Parameters<typeof writeProgress>[0]) {
      // Left out: details, which name files of this machine, and progress for a client that does not read.
      if (event.kind !== "detail" && !signal.aborted && !stream.writableNeedDrain)
        stream.write({ infer_response: writeProgress(event, { id, model: name, spell: asJsonKey }) });
    },
  };
  try {
    const { answer } = await inference.infer({ name, version }, () => readMessage(message), call);
    const parameters = { ...answer.parameters, triton_final_response: true };
    if (!signal.aborted) await drained(stream, { infer_response: writeMessage({ ...answer, parameters }) }, signal);
    return "OK";
  } catch (error) {
    const { grpc, text, code } = failureOfV2(error);
    // A stream has no status of one request.
    const parameters = { status: grpc, code, triton_final_response: true };
    const model = writeMessage({ id, model: name, outputs: [], parameters });
    if (!signal.aborted) await drained(stream, { error_message: text, infer_response: model }, signal);
    return grpc;
  }
}

async function drained(
  stream: InferStream,
  message: Parameters<InferStream["write"]>[0],
  signal: AbortSignal,
): Promise<void> {
  if (stream.write(message) || signal.aborted) return;
  await new Promise<void>((resolve) => {
    stream.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

// A call ends early when its client cancels it or goes, and when its deadline has passed.
function cancelSignal(call: {
  readonly cancelled: boolean;
  once(event: "cancelled", listener: () => void): unknown;
}): AbortSignal {
  const gone = new AbortController();
  if (call.cancelled) gone.abort();
  call.once("cancelled", () => gone.abort());
  return gone.signal;
}

function keyChecked(key: string | undefined): (metadata: Metadata) => void {
  const check = keyCheck(key);
  return (metadata) => {
    const text = (name: string) => metadata.get(name)[0]?.toString();
    const fault = check(text("authorization"), text("x-api-key"));
    if (fault !== undefined)
      throw new HttpError(401, "unauthorized", fault.message, {
        ...(fault.hint !== undefined && { hint: fault.hint }),
      });
  };
}

function statusOf(error: unknown): Pick<StatusObject, "code" | "details" | "metadata"> & { readonly name: string } {
  const { grpc: name, text, code } = failureOfV2(error);
  const metadata = new Metadata();
  if (code !== undefined) metadata.set(CODE_HEADER, code);
  return { name, code: status[name as keyof typeof status], details: text, metadata };
}

// Its states follow the server's phase.
function openHealth(inference: Inference, server: Server): { readonly close: () => void } {
  const health = new HealthImplementation();
  const update = () => {
    for (const service of ["", SERVICE]) health.setStatus(service, inference.isReady ? "SERVING" : "NOT_SERVING");
  };
  update();
  health.addToServer(server as unknown as Parameters<HealthImplementation["addToServer"]>[0]);
  let isReady = inference.isReady;
  const timer = setInterval(() => {
    if (inference.isReady === isReady) return;
    isReady = inference.isReady;
    update();
  }, PHASE_INTERVAL).unref();
  return {
    close() {
      clearInterval(timer);
      for (const service of ["", SERVICE]) health.setStatus(service, "NOT_SERVING");
    },
  };
}

async function bind(server: Server, address: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(written(address), ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else
        reject(
          new QeditError("QEDIT_E_IO", `Cannot listen on ${written(address)}: ${error.message}`, {
            hint: "Stop the program that listens there, or choose another port",
            cause: error,
          }),
        );
    });
  });
}
