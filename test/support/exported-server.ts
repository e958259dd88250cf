// A server of KServe V2 over an exported folder, by HTTP with the binary extension and by gRPC: metadata and configurations from config.pbtxt itself, and
// inference, ensembles by the interpreter. It stands for Triton, whose texts of errors it has, and lies where it is told to.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import {
  type handleUnaryCall,
  loadPackageDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { parseDevice } from "../../src/engine/providers.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { runEnsemble } from "../../src/export/triton/ensemble-interpreter.js";
import { type ModelConfig, parseConfig } from "../../src/export/triton/model-config.js";
import { PROTO_FILE } from "../../src/kserve/proto-file.js";
import type { Tensor, TensorType } from "../../src/std/tensor.js";

const TYPES = {
  FP32: ["float32", Float32Array],
  INT64: ["int64", BigInt64Array],
  UINT8: ["uint8", Uint8Array],
} as const;
const HEADER = "inference-header-content-length";

type Datatype = keyof typeof TYPES;

interface Head {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly (number | string)[];
  readonly parameters?: { readonly binary_data_size: number };
}

/** An output before it is sent. */
export interface ServedOutput {
  name: string;
  datatype: string;
  shape: number[];
  data: Buffer;
}

/** What the server does besides, or instead. */
export interface Serving {
  /** Changes the outputs of a model. */
  readonly answer?: (outputs: ServedOutput[], model: string) => void | Promise<void>;
  /** Changes the parameters of a model's configuration. */
  readonly parameters?: (parameters: Record<string, { string_value: string }>, model: string) => object;
  /** Refuses a run; or waits as long as it likes. */
  readonly refusal?: (model: string) => Failure | undefined | Promise<Failure | undefined>;
  /** Models that it does not serve. */
  readonly without?: RegExp;
  /** A key that it wants. */
  readonly key?: string;
}

interface Failure {
  readonly code: keyof typeof status;
  readonly text: string;
}

/** A running server. */
export interface ExportedServer {
  readonly url: string;
  /** grpc://HOST:PORT */
  readonly grpc: string;
  /** Models that were run, in order. */
  readonly runs: readonly string[];
  readonly close: () => Promise<void>;
}

class Refused extends Error {
  constructor(readonly failure: Failure) {
    super(failure.text);
  }
}

const HTTP_STATUS: Readonly<Record<string, number>> = {
  NOT_FOUND: 404,
  UNAVAILABLE: 503,
  INTERNAL: 500,
  UNAUTHENTICATED: 401,
};

/** Serves an exported folder on free ports of this machine. */
export async function serveExported(folder: string, serving: Serving = {}): Promise<ExportedServer> {
  const engine = pairedEngine(parseDevice("cpu", 1));
  const { signal } = new AbortController();
  const runs: string[] = [];
  const configOf = (name: string): ModelConfig => {
    const unknown = new Refused({ code: "NOT_FOUND", text: `Request for unknown model: '${name}' is not found` });
    if (serving.without?.test(name)) throw unknown;
    try {
      return parseConfig(readFileSync(join(folder, name, "config.pbtxt"), "utf8"));
    } catch {
      throw unknown;
    }
  };
  const toldConfig = (name: string) => {
    const config = configOf(name);
    const parameters = { ...config.parameters } as Record<string, { string_value: string }>;
    return { ...config, parameters: serving.parameters?.(parameters, name) ?? parameters };
  };
  const infer = async (name: string, inputs: Record<string, Tensor>): Promise<ServedOutput[]> => {
    const config = configOf(name);
    runs.push(name);
    const failure = await serving.refusal?.(name);
    if (failure) throw new Refused(failure);
    const results = await runEnsemble(name, inputs, { folder, engine, signal }).catch((error: Error) => {
      throw new Refused({ code: "INTERNAL", text: `onnx runtime error 6: ${error.message}` });
    });
    const outputs = config.output.map(({ name: output, data_type: type }) => {
      const { shape, data } = results[output]!;
      const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      return { name: output, datatype: type.slice("TYPE_".length), shape: [...shape], data: Buffer.from(bytes) };
    });
    await serving.answer?.(outputs, name);
    return outputs;
  };
  const doors = { configOf, toldConfig, infer, key: serving.key };
  const [http, grpc] = [httpDoor(doors), grpcDoor(doors)];
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const port = await new Promise<number>((resolve, reject) =>
    grpc.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    grpc: `grpc://127.0.0.1:${port}`,
    runs,
    async close() {
      grpc.forceShutdown();
      http.closeAllConnections();
      http.close();
      await engine.dispose();
    },
  };
}

interface Doors {
  readonly configOf: (name: string) => ModelConfig;
  readonly toldConfig: (name: string) => object;
  readonly infer: (name: string, inputs: Record<string, Tensor>) => Promise<ServedOutput[]>;
  readonly key: string | undefined;
}

function metadataOf({ name, platform = "onnxruntime_onnx", input, output }: ModelConfig) {
  const listed = (specs: ModelConfig["input"]) =>
    specs.map((spec) => ({ name: spec.name, datatype: spec.data_type.slice("TYPE_".length), shape: spec.dims }));
  return { name, versions: ["1"], platform, inputs: listed(input), outputs: listed(output) };
}

function refuseKey(given: string | undefined, key: string | undefined): void {
  if (key !== undefined && given !== `Bearer ${key}`)
    throw new Refused({ code: "UNAUTHENTICATED", text: "This protocol is restricted" });
}

function failureOf(error: unknown): Failure {
  return error instanceof Refused ? error.failure : { code: "INTERNAL", text: String(error) };
}

function httpDoor({ configOf, toldConfig, infer, key }: Doors) {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    refuseKey(request.headers.authorization, key);
    const [, name, rest] = /^\/v2\/models\/([^/]+)(\/config|\/infer)?$/.exec(request.url ?? "") ?? [];
    if (name === undefined) return void response.writeHead(404).end();
    if (rest === undefined) return void response.end(JSON.stringify(metadataOf(configOf(name))));
    if (rest === "/config") return void response.end(JSON.stringify(toldConfig(name)));
    const body = await buffer(request);
    const length = Number(request.headers[HEADER]);
    const { inputs } = JSON.parse(body.subarray(0, length).toString()) as { readonly inputs: readonly Head[] };
    let at = length;
    const raws = inputs.map(({ parameters }) => body.subarray(at, (at += parameters!.binary_data_size)));
    const outputs = await infer(name, tensorsOf(inputs, raws));
    const heads = outputs.map(({ data, ...head }) => ({ ...head, parameters: { binary_data_size: data.length } }));
    const header = Buffer.from(JSON.stringify({ model_name: name, model_version: "1", outputs: heads }));
    response
      .writeHead(200, { [HEADER]: header.length })
      .end(Buffer.concat([header, ...outputs.map(({ data }) => data)]));
  };
  return createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const { code, text } = failureOf(error);
      response.writeHead(HTTP_STATUS[code] ?? 400).end(JSON.stringify({ error: text }));
    });
  });
}

interface InferRequest {
  readonly model_name: string;
  readonly inputs: readonly Head[];
  readonly raw_input_contents: readonly Buffer[];
}

function grpcDoor({ configOf, toldConfig, infer, key }: Doors): Server {
  const definition = loadSync(PROTO_FILE, { keepCase: true, longs: String, enums: String, defaults: true });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: { readonly GRPCInferenceService: { readonly service: ServiceDefinition } };
  };
  const unary =
    <Request>(work: (request: Request) => object | Promise<object>): handleUnaryCall<Request, object> =>
    async (call: ServerUnaryCall<Request, object>, respond) => {
      try {
        refuseKey(call.metadata.get("authorization")[0]?.toString(), key);
        respond(null, await work(call.request));
      } catch (error) {
        const { code, text } = failureOf(error);
        respond({ code: status[code], details: text, metadata: new Metadata() });
      }
    };
  const server = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
  server.addService(inference.GRPCInferenceService.service, {
    ModelMetadata: unary(({ name }: { name: string }) => metadataOf(configOf(name))),
    ModelConfig: unary(({ name }: { name: string }) => ({ config: toldConfig(name) })),
    ModelInfer: unary(async ({ model_name: name, inputs, raw_input_contents: raws }: InferRequest) => {
      const outputs = await infer(name, tensorsOf(inputs, raws));
      return {
        ...{ model_name: name, model_version: "1" },
        outputs: outputs.map(({ data: _, ...head }) => head),
        raw_output_contents: outputs.map(({ data }) => data),
      };
    }),
  });
  return server;
}

function tensorsOf(inputs: readonly Head[], raws: readonly Buffer[]): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.map(({ name, datatype, shape }, index) => {
      const [type, Elements] = TYPES[datatype];
      // Aligned, as typed arrays want it.
      const bytes = Uint8Array.from(raws[index]!);
      return [name, { type: type as TensorType, shape: shape.map(Number), data: new Elements(bytes.buffer) }];
    }),
  );
}
