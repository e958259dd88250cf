// A client of the inference protocol (KServe V2), over gRPC or HTTP: metadata of a model, and inference with its progress where the server
// reports it. Each call has a connection of its own, so that nothing of a server that is gone stays. Nothing that a server says is trusted:
// lengths and times are bounded.

import type { TensorHead, V2Tensor } from "../v2-tensor.js";
import type { V2Address } from "./v2-address.js";

/** A tensor of a model as its server lists it; -1 is any length. The datatype may be one that is not known here. */
export interface ListedTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: TensorHead["shape"];
}

/** A model as its server lists it. */
export interface ListedModel {
  readonly platform: string;
  readonly inputs: readonly ListedTensor[];
  readonly outputs: readonly ListedTensor[];
}

/** A request. */
export interface SentRequest {
  readonly model: string;
  readonly tensors: readonly V2Tensor[];
  /** Strings, numbers and booleans by name. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  /** Whether the server is asked for progress, which only a server of qedit reports. */
  readonly hasProgress: boolean;
}

/** What a server answered. */
export interface ReceivedAnswer {
  readonly outputs: ReadonlyMap<string, V2Tensor>;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** How a call is made. */
export interface V2Call {
  /** Milliseconds for all of it; Infinity: no limit. */
  readonly timeout: number;
  /** Its reason is thrown when it is aborted. */
  readonly signal: AbortSignal;
  /** Receives the fields of an event as the server sends them. */
  readonly onProgress?: (fields: Readonly<Record<string, unknown>>) => void;
}

/** A client of one server. */
export interface V2Client {
  /** Throws V2CallError. */
  readonly model: (name: string, call: V2Call) => Promise<ListedModel>;
  /** The parameters of a model's configuration, which Triton has; empty where a server tells none. Throws V2CallError. */
  readonly parameters: (name: string, call: V2Call) => Promise<Readonly<Record<string, string>>>;
  /** Throws V2CallError. */
  readonly infer: (request: SentRequest, call: V2Call) => Promise<ReceivedAnswer>;
}

/** What went wrong: nothing answers or it broke off; it answers that it is not ready; that its queue is full; the time was over; the key is wrong; it has no such model; it refuses the request; it failed; it answers what does not fit. */
export type V2Fault =
  | "unreachable"
  | "unready"
  | "busy"
  | "late"
  | "unauthorized"
  | "unknown model"
  | "refused"
  | "failed"
  | "unfit";

/** A call that failed. */
export class V2CallError extends Error {
  constructor(
    readonly fault: V2Fault,
    message: string,
    /** The code of the error table, where a server of qedit told it. */
    readonly code?: string,
  ) {
    super(message);
  }
}

/** What Triton says of a queue that is full, and of a model that it does not have, whatever the status. */
const QUEUE_IS_FULL = /maximum queue size/i;
const NO_SUCH_MODEL = /^Request for unknown model: '.*' is not found/is;

/** A fault, corrected by a server's text where its status says less. */
export function faultOfText(fault: V2Fault, text: string): V2Fault {
  if (fault === "unready" && QUEUE_IS_FULL.test(text)) return "busy";
  return NO_SUCH_MODEL.test(text) ? "unknown model" : fault;
}

/** Bytes of an answer: three references and embeddings of 16,384 tokens take a quarter of a gigabyte. */
export const LARGEST_ANSWER = 1024 ** 3;

/** The metadata of gRPC and the header of HTTP in which a server of qedit tells the code of an error. */
export const CODE_HEADER = "x-qedit-code";

/** Opens a client; the key is sent as a bearer token. gRPC is loaded where it is used. */
export async function openV2Client(address: V2Address, key: string | undefined): Promise<V2Client> {
  if (address.protocol === "http") {
    const { httpClient } = await import("./v2-over-http.js");
    return httpClient(address, key);
  }
  const { grpcClient } = await import("./v2-over-grpc.js");
  return grpcClient(address, key);
}
