// The inference protocol over HTTP, as a client.
import { once } from "node:events";
import { type IncomingMessage, request as plainRequest } from "node:http";
import { request as secureRequest } from "node:https";
import { shown } from "../../std/foreign-text.js";
import { isObject } from "../../std/guards.js";
import { JSON_LENGTH } from "../json-codec.js";
import { V2Error } from "../v2-error.js";
import { parsedJson, readInferAnswer, writeInferRequest } from "./json-answers.js";
import { systemRoots } from "./system-roots.js";
import type { V2Address } from "./v2-address.js";
import {
  CODE_HEADER,
  faultOfText,
  LARGEST_ANSWER,
  type ListedModel,
  type ListedTensor,
  type V2Call,
  V2CallError,
  type V2Client,
  type V2Fault,
} from "./v2-client.js";

/** Bytes of an error and of a model's metadata. */
const LARGEST_TEXT = 1024 ** 2;
/** Characters of a server's text in a message. */
const LONGEST_TEXT = 500;

const FAULTS: Readonly<Record<number, V2Fault>> = {
  401: "unauthorized",
  403: "unauthorized",
  404: "unknown model",
  429: "busy",
  502: "unready",
  503: "unready",
  504: "unready",
};

interface Sent {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Bytes of its answer. */
  readonly most: number;
}

interface Received {
  readonly header: (name: string) => string | undefined;
  readonly bytes: Buffer;
}

/** The client of a server. */
export function httpClient(address: V2Address, key: string | undefined): V2Client {
  const headers: Readonly<Record<string, string>> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const pathOf = (model: string) => `/v2/models/${encodeURIComponent(model)}`;
  return {
    async model(name, call) {
      const { bytes } = await sent(address, { method: "GET", path: pathOf(name), headers, most: LARGEST_TEXT }, call);
      return understood(() => toModel(parsedJson(bytes)));
    },
    async parameters(name, call) {
      const path = `${pathOf(name)}/config`;
      try {
        const { bytes } = await sent(address, { method: "GET", path, headers, most: LARGEST_TEXT }, call);
        return understood(() => toParameters(parsedJson(bytes)));
      } catch (error) {
        // Of the protocol without Triton's extensions.
        if (error instanceof V2CallError && ["unknown model", "refused"].includes(error.fault)) return {};
        throw error;
      }
    },
    async infer({ model, ...request }, call) {
      const { body, jsonLength } = writeInferRequest(request);
      const own = { "content-type": "application/octet-stream", [JSON_LENGTH]: String(jsonLength) };
      const posted = { method: "POST", path: `${pathOf(model)}/infer`, headers: { ...headers, ...own }, body } as const;
      const { bytes, header } = await sent(address, { ...posted, most: LARGEST_ANSWER }, call);
      return understood(() => readInferAnswer(bytes, header(JSON_LENGTH)));
    },
  };
}

// The answer, if its status is 200.
async function sent(
  { target, isSecure }: V2Address,
  { method, path, headers, body, most }: Sent,
  { timeout, signal }: V2Call,
): Promise<Received> {
  signal.throwIfAborted();
  const options = {
    ...{ method, agent: false as const },
    headers: {
      "accept-encoding": "identity",
      ...headers,
      ...(body && { "content-length": String(body.length) }),
    },
  };
  const request = isSecure
    ? secureRequest(`${target}${path}`, { ...options, ca: systemRoots() })
    : plainRequest(`${target}${path}`, options);
  // One after the answer's head is thrown where its body is read.
  request.on("error", () => {});
  const abort = () => request.destroy(new Error("aborted"));
  signal.addEventListener("abort", abort, { once: true });
  let isLate = false;
  const late = () => {
    isLate = true;
    request.destroy(new Error("late"));
  };
  const timer = Number.isFinite(timeout) ? setTimeout(late, timeout) : undefined;
  try {
    request.end(body);
    const [message] = (await once(request, "response")) as [IncomingMessage];
    const isOk = message.statusCode === 200;
    const bytes = await bytesOf(message, isOk ? most : LARGEST_TEXT);
    const header = (name: string) => [message.headers[name]].flat()[0];
    if (isOk) return { header, bytes };
    const told = header(CODE_HEADER);
    const text = textOf(bytes) || `HTTP ${message.statusCode}`;
    throw new V2CallError(faultOfText(faultOf(message.statusCode!), text), text, told);
  } catch (error) {
    signal.throwIfAborted();
    if (isLate) throw new V2CallError("late", `no answer within ${timeout / 1000} s`);
    throw error instanceof V2CallError ? error : new V2CallError("unreachable", reasonOf(error));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    request.destroy();
  }
}

async function bytesOf(message: IncomingMessage, most: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of message as AsyncIterable<Uint8Array>) {
    length += part.length;
    if (length > most) throw new V2CallError("unfit", `more than ${most} bytes`);
    parts.push(part);
  }
  if (!message.complete) throw new Error("it broke off the connection");
  return Buffer.concat(parts, length);
}

function faultOf(status: number): V2Fault {
  const isRefusal = status >= 400 && status < 500;
  return FAULTS[status] ?? (isRefusal ? "refused" : status < 400 ? "unfit" : "failed");
}

// `{"error": "text"}`, or a proxy's page.
function textOf(bytes: Buffer): string {
  try {
    const { error } = parsedJson(bytes);
    if (typeof error === "string") return shown(error, LONGEST_TEXT);
    if (isObject(error) && typeof error["message"] === "string") return shown(error["message"], LONGEST_TEXT);
  } catch {
    // Not of this protocol.
  }
  return "";
}

function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof V2Error) throw new V2CallError("unfit", error.message);
    throw error;
  }
}

function toParameters({ parameters }: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const entries = isObject(parameters) ? Object.entries(parameters) : [];
  const texts = entries.flatMap(([name, value]) => {
    const text = isObject(value) ? value["string_value"] : undefined;
    return typeof text === "string" ? [[name, text] as const] : [];
  });
  return Object.fromEntries(texts);
}

function toModel({ platform, inputs, outputs }: Readonly<Record<string, unknown>>): ListedModel {
  return { platform: typeof platform === "string" ? platform : "", inputs: listed(inputs), outputs: listed(outputs) };
}

function listed(tensors: unknown): readonly ListedTensor[] {
  if (!Array.isArray(tensors)) throw new V2Error(400, "its metadata lists no inputs and outputs");
  return (tensors as readonly unknown[]).map((tensor) => {
    const { name, datatype, shape } = isObject(tensor) ? tensor : {};
    const isShape = Array.isArray(shape) && shape.every((length) => Number.isSafeInteger(Number(length)));
    if (typeof name !== "string" || typeof datatype !== "string" || !isShape)
      throw new V2Error(400, "its metadata lists a tensor without name, datatype or shape");
    return { name, datatype, shape: (shape as readonly unknown[]).map(Number) };
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the name of the host cannot be looked up",
  ECONNRESET: "it broke off the connection",
  EPIPE: "it broke off the connection",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to it",
  HPE_INVALID_CONSTANT: "what listens there does not speak HTTP",
};

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  // Several addresses of a host fail together, without a message of their own.
  const first = error instanceof AggregateError ? (error.errors[0] as NodeJS.ErrnoException | undefined) : undefined;
  const known = REASONS[code ?? first?.code ?? ""];
  return known ?? shown(message || first?.message || String(code), LONGEST_TEXT);
}
