// A server of KServe V2 over gRPC that hands requests on to a real one, and changes what comes back: what a client must not trust.
import {
  type handleUnaryCall,
  loadPackageDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { PROTO_FILE } from "../../src/kserve/proto-file.js";
import { called, grpcClient, type InferResponse } from "../server/kserve/grpc-client.js";

/** A response whose fields may be changed. */
export interface Changeable {
  parameters: Record<string, Record<string, unknown>>;
  outputs: { name: string; datatype: string; shape: string[] }[];
  raw_output_contents: Buffer[];
}

/** The request and the stream of a call. */
export interface TamperedCall {
  readonly request: { readonly model_name: string; readonly inputs: readonly { readonly name: string }[] };
  readonly stream: ServerDuplexStream<object, object>;
}

/** What is done instead of what the real server does. */
export interface Tampering {
  /** Changes the response of the real server; or answers by the stream itself and gives false. */
  readonly answer?: (response: Changeable, call: TamperedCall) => boolean | Promise<boolean>;
  /** Answers by the stream itself, without the real server. */
  readonly instead?: (call: TamperedCall) => void;
  /** Changes the metadata of a model. */
  readonly metadata?: (metadata: Record<string, unknown>) => object;
  /** gRPC status of every inference. */
  readonly refusal?: keyof typeof status;
}

/** A running server. */
export interface TamperingServer {
  readonly address: string;
  /** Requests for inference that came. */
  readonly requests: readonly TamperedCall["request"][];
  readonly close: () => void;
}

/** Starts it before a real one, `HOST:PORT`. */
export async function startTampering(real: string, tampering: Tampering): Promise<TamperingServer> {
  const definition = loadSync(PROTO_FILE, { keepCase: true, longs: String, enums: String, defaults: true });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: { readonly GRPCInferenceService: { readonly service: ServiceDefinition } };
  };
  const client = grpcClient(real);
  const requests: TamperedCall["request"][] = [];
  const server = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
  const metadata: handleUnaryCall<object, object> = async (call, respond) => {
    const found = await called<Record<string, unknown>>(client, "ModelMetadata", call.request).catch(() => ({}));
    respond(null, tampering.metadata?.(found) ?? found);
  };
  const infer = async (request: TamperedCall["request"], stream: ServerDuplexStream<object, object>) => {
    requests.push(request);
    const { refusal, instead, answer } = tampering;
    if (refusal)
      return void stream.emit("error", { code: status[refusal], details: "as told", metadata: new Metadata() });
    if (instead) return instead({ request, stream });
    const response = (await called<InferResponse>(client, "ModelInfer", request)) as unknown as Changeable;
    if ((await answer?.(response, { request, stream })) !== false) stream.write({ infer_response: response });
    stream.end();
  };
  server.addService(inference.GRPCInferenceService.service, {
    ModelMetadata: metadata,
    ModelStreamInfer(stream: ServerDuplexStream<TamperedCall["request"], object>) {
      stream.on("error", () => {});
      stream.on("data", (request: TamperedCall["request"]) =>
        infer(request, stream as ServerDuplexStream<object, object>).catch((error: Error) =>
          stream.emit("error", { code: status.UNKNOWN, details: error.message, metadata: new Metadata() }),
        ),
      );
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return {
    address: `grpc://127.0.0.1:${port}`,
    requests,
    close() {
      client.close();
      server.forceShutdown();
    },
  };
}
