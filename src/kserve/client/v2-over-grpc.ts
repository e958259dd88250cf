// The inference protocol over gRPC, as a client.
import {
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { shown } from "../../std/foreign-text.js";
import { type ModelInferAnswer, readAnswerMessage, readParameterMap, writeRequestMessage } from "../infer-messages.js";
import { PROTO_FILE } from "../proto-file.js";
import { V2Error } from "../v2-error.js";
import { systemRoots } from "./system-roots.js";
import type { V2Address } from "./v2-address.js";
import {
  CODE_HEADER,
  faultOfText,
  LARGEST_ANSWER,
  type ListedModel,
  type ReceivedAnswer,
  type SentRequest,
  type V2Call,
  V2CallError,
  type V2Client,
  type V2Fault,
} from "./v2-client.js";

type Done = (error: ServiceError | null, response: unknown) => void;
type Unary = (request: object, metadata: Metadata, options: object, done: Done) => { cancel: () => void };

interface Stub {
  readonly ModelMetadata: Unary;
  readonly ModelConfig: Unary;
  readonly ModelInfer: Unary;
  readonly ModelStreamInfer: (
    metadata: Metadata,
    options: object,
  ) => ClientDuplexStream<object, { readonly error_message?: string; readonly infer_response?: ModelInferAnswer }>;
  readonly close: () => void;
}

/** Messages of progress of one request: an edit has one for each of up to 10,000 steps, and some more. */
const MOST_PROGRESS = 20_000;
/** Characters of a server's text in a message. */
const LONGEST_TEXT = 500;

const FAULTS: Readonly<Record<number, V2Fault>> = {
  [status.UNAVAILABLE]: "unready",
  [status.RESOURCE_EXHAUSTED]: "busy",
  [status.DEADLINE_EXCEEDED]: "late",
  [status.UNAUTHENTICATED]: "unauthorized",
  [status.PERMISSION_DENIED]: "unauthorized",
  [status.NOT_FOUND]: "unknown model",
  [status.INVALID_ARGUMENT]: "refused",
  [status.OUT_OF_RANGE]: "refused",
  [status.UNIMPLEMENTED]: "unfit",
};

/** gRPC's own texts for a connection that could not be made, or that ended: a server never says them. */
const LOST =
  /^(No connection established|Connection dropped|Received RST_STREAM|Failed to connect|Name resolution|read ECONN|Call ended|connect )/i;

/** The client of a server. */
export function grpcClient(address: V2Address, key: string | undefined): V2Client {
  const metadata = new Metadata();
  if (key !== undefined) metadata.set("authorization", `Bearer ${key}`);
  return {
    model: (name, call) =>
      withStub(address, (stub) =>
        unary((done, options) => stub.ModelMetadata({ name, version: "" }, metadata, options, done), call).then(
          toModel,
        ),
      ),
    parameters: (name, call) =>
      withStub(address, (stub) =>
        unary((done, options) => stub.ModelConfig({ name, version: "" }, metadata, options, done), call).then(
          toParameters,
          (error: unknown) => {
            if (error instanceof V2CallError && error.fault === "unfit") return {};
            throw error;
          },
        ),
      ),
    infer: (request, call) =>
      withStub(address, (stub) =>
        request.hasProgress
          ? streamed(stub, { request, metadata, call })
          : unary((done, options) => stub.ModelInfer(writeRequestMessage(request), metadata, options, done), call).then(
              toAnswer,
            ),
      ),
  };
}

async function withStub<T>({ target, isSecure }: V2Address, work: (stub: Stub) => Promise<T>): Promise<T> {
  const definition = loadSync(PROTO_FILE, {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: {
      readonly GRPCInferenceService: new (target: string, credentials: object, options: object) => Stub;
    };
  };
  const security = isSecure ? credentials.createSsl(Buffer.from(systemRoots())) : credentials.createInsecure();
  const stub = new inference.GRPCInferenceService(target, security, {
    "grpc.max_receive_message_length": LARGEST_ANSWER,
    "grpc.max_send_message_length": -1,
    // Nothing is known of earlier connections: the server may be back.
    "grpc.use_local_subchannel_pool": 1,
  });
  try {
    return await work(stub);
  } finally {
    stub.close();
  }
}

async function unary(
  start: (done: Done, options: object) => { cancel: () => void },
  { timeout, signal }: V2Call,
): Promise<unknown> {
  signal.throwIfAborted();
  let cancel = () => {};
  try {
    return await new Promise<unknown>((resolve, reject) => {
      const call = start((error, response) => (error === null ? resolve(response) : reject(error)), until(timeout));
      cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
    });
  } catch (error) {
    signal.throwIfAborted();
    throw failed(error as ServiceError, timeout);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

async function streamed(
  stub: Stub,
  { request, metadata, call }: { request: SentRequest; metadata: Metadata; call: V2Call },
): Promise<ReceivedAnswer> {
  const { timeout, signal, onProgress } = call;
  signal.throwIfAborted();
  const stream = stub.ModelStreamInfer(metadata, until(timeout));
  const cancel = () => stream.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  // What comes after the answer, or after it was refused.
  stream.on("error", () => {});
  try {
    stream.write(writeRequestMessage(request));
    stream.end();
    let count = 0;
    for await (const { error_message: fault = "", infer_response: response } of stream) {
      const parameters = readParameterMap(response?.parameters);
      if (fault !== "") throw new V2CallError(...faultOfStream(fault, parameters));
      const isProgress = parameters["event"] !== undefined && (response?.outputs ?? []).length === 0;
      if (!isProgress) return toAnswer(response);
      count += 1;
      if (count > MOST_PROGRESS)
        throw new V2CallError("unfit", `more than ${MOST_PROGRESS} messages without an answer`);
      onProgress?.(parameters);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw failed(error, timeout);
  } finally {
    signal.removeEventListener("abort", cancel);
    stream.cancel();
  }
  throw new V2CallError("unreachable", "it ended the stream without an answer");
}

// The server tells the status of a stream's request as parameters.
function faultOfStream(
  text: string,
  { status: name, code }: Readonly<Record<string, unknown>>,
): [fault: V2Fault, message: string, code: string | undefined] {
  const number = typeof name === "string" ? status[name as keyof typeof status] : undefined;
  return [FAULTS[number ?? status.UNKNOWN] ?? "failed", shown(text, LONGEST_TEXT), textOf(code)];
}

function failed(error: unknown, timeout: number): unknown {
  if (error instanceof V2CallError) return error;
  if (error instanceof V2Error) return new V2CallError("unfit", error.message);
  const { code, details = "", metadata } = error as ServiceError;
  if (code === undefined) return error;
  if (code === status.DEADLINE_EXCEEDED) return new V2CallError("late", `no answer within ${timeout / 1000} s`);
  const text = shown(details, LONGEST_TEXT);
  const told = textOf(metadata?.get(CODE_HEADER)[0]?.toString());
  if (told === undefined && (LOST.test(details) || code === status.CANCELLED))
    return new V2CallError("unreachable", reasonOf(text));
  if (code === status.RESOURCE_EXHAUSTED && /Received message (larger|that decompresses)/i.test(details))
    return new V2CallError("unfit", `more than ${LARGEST_ANSWER} bytes`);
  // What cannot be decoded as protobuf.
  if (code === status.INTERNAL && told === undefined && /parsing|deserializ/i.test(details))
    return new V2CallError("unfit", "a message that is no protobuf of this protocol");
  return new V2CallError(faultOfText(FAULTS[code] ?? "failed", text), text, told);
}

function reasonOf(details: string): string {
  if (/ECONNREFUSED/.test(details)) return "nothing listens there";
  if (/ENOTFOUND|EAI_AGAIN|Name resolution/i.test(details)) return "no such host";
  if (/No connection established/.test(details))
    return details.replace(/^No connection established\.\s*(Last error:\s*)?/, "");
  return "it broke off the connection";
}

function until(timeout: number): object {
  return Number.isFinite(timeout) ? { deadline: Date.now() + timeout } : {};
}

function toModel(response: unknown): ListedModel {
  const {
    platform = "",
    inputs = [],
    outputs = [],
  } = response as {
    readonly platform?: string;
    readonly inputs?: readonly {
      readonly name: string;
      readonly datatype: string;
      readonly shape: readonly string[];
    }[];
    readonly outputs?: readonly {
      readonly name: string;
      readonly datatype: string;
      readonly shape: readonly string[];
    }[];
  };
  const listed = (tensors: typeof inputs) =>
    tensors.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(Number) }));
  return { platform, inputs: listed(inputs), outputs: listed(outputs) };
}

function toParameters(response: unknown): Readonly<Record<string, string>> {
  const { config } = response as {
    readonly config?: { readonly parameters?: Readonly<Record<string, { readonly string_value?: string }>> } | null;
  };
  const values = Object.entries(config?.parameters ?? {}).map(([name, value]) => [name, value.string_value ?? ""]);
  return Object.fromEntries(values) as Readonly<Record<string, string>>;
}

function toAnswer(response: unknown): ReceivedAnswer {
  try {
    return readAnswerMessage(response as ModelInferAnswer);
  } catch (error) {
    if (error instanceof V2Error) throw new V2CallError("unfit", error.message);
    throw error;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
