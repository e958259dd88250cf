// A client of KServe V2 over gRPC, as tests call it.
import {
  type ClientDuplexStream,
  type ClientUnaryCall,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fixture } from "../../support/golden.js";
import type { TestCall, TestTensor } from "./http-client.js";

/** A client of the gRPC door. */
export type GrpcClient = Readonly<
  Record<
    string,
    (
      request: object,
      metadata: Metadata,
      options: object,
      done: (error: ServiceError | null, response: never) => void,
    ) => ClientUnaryCall
  >
> & {
  readonly ModelStreamInfer: () => ClientDuplexStream<object, StreamResponse>;
  readonly close: () => void;
};

/** A response of a stream. */
export interface StreamResponse {
  readonly error_message: string;
  readonly infer_response: InferResponse;
}

/** ModelInferResponse. */
export interface InferResponse {
  readonly id: string;
  readonly parameters: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly outputs: readonly { readonly name: string; readonly datatype: string; readonly shape: readonly string[] }[];
  readonly raw_output_contents: readonly Buffer[];
}

const PROTO = fixture("../src/kserve/kserve.proto");

/** Opens a client. */
export function grpcClient(address: string): GrpcClient {
  const definition = loadSync(PROTO, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: {
      readonly GRPCInferenceService: new (address: string, credentials: object, options: object) => GrpcClient;
    };
  };
  return new inference.GRPCInferenceService(address, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
}

/** Calls a method. */
export function called<Response>(
  client: GrpcClient,
  method: string,
  request: object = {},
  { metadata = {}, options = {}, started = () => {} }: CallOptions = {},
): Promise<Response> {
  const sent = new Metadata();
  for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
  return new Promise((resolve, reject) => {
    const call = client[method]!(request, sent, options, (error, response) =>
      error === null ? resolve(response) : reject(error),
    );
    started(call);
  });
}

interface CallOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly options?: object;
  readonly started?: (call: ClientUnaryCall) => void;
}

/** ModelInferRequest with raw contents. */
export function inferRequest(model: string, { inputs, parameters = {}, outputs = [], id = "" }: TestCall): object {
  return {
    model_name: model,
    id,
    parameters: Object.fromEntries(
      Object.entries(parameters).map(([name, value]) => [name, { string_param: String(value) }]),
    ),
    inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    outputs: outputs.map((name) => ({ name })),
    raw_input_contents: inputs.map(({ bytes }) => bytes),
  };
}

/** Calls a model over gRPC. */
export async function inferGrpc(client: GrpcClient, model: string, call: TestCall): Promise<readonly TestTensor[]> {
  return tensorsOf(await called<InferResponse>(client, "ModelInfer", inferRequest(model, call)));
}

/** The outputs of a response. */
export function tensorsOf({ outputs, raw_output_contents: raw }: InferResponse): readonly TestTensor[] {
  return outputs.map(({ name, datatype, shape }, index) => ({
    ...{ name, datatype, shape: shape.map(Number) },
    bytes: raw[index]!,
  }));
}
