// One HTTP request of the client, over a network or a socket. Lengths and times are bounded: a server is not trusted.
import { once } from "node:events";
import { type IncomingMessage, request as plainRequest, type RequestOptions } from "node:http";
import { request as secureRequest } from "node:https";
import { param, QeditError } from "../../std/errors.js";
import type { ServerAddress } from "./server-address.js";

/** A request. */
export interface HttpCall {
  readonly method: "GET" | "POST" | "DELETE";
  /** Below the address's base: `/v1/jobs`. */
  readonly path: string;
  readonly body?: Uint8Array | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds without a byte after which it is given up. */
  readonly timeout: number;
  readonly signal?: AbortSignal | undefined;
  /** Whether the signal counts only until the request is sent: what it does is to be undone, not to be guessed. */
  readonly isKeptWhenSent?: boolean;
}

/** The head of an answer, and its body as it comes. */
export interface HttpAnswer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly body: AsyncIterable<Uint8Array>;
}

/** The server is not reached, has gone, or is none of qedit's: not the failure of an edit. */
export class ServerLost extends QeditError {}

/** It answers what cannot be understood. */
export class ServerUnclear extends ServerLost {}

/** Sends a request. Throws ServerLost (QEDIT_E_NETWORK), and the signal's reason when it is aborted. */
export async function httpCall(address: ServerAddress, call: HttpCall): Promise<HttpAnswer> {
  const { method, path, body, headers = {}, timeout, signal, isKeptWhenSent = false } = call;
  signal?.throwIfAborted();
  const send = address.base.startsWith("https:") ? secureRequest : plainRequest;
  const options: RequestOptions = {
    method,
    headers: { ...headers, ...(body && { "content-length": String(body.length) }) },
    // A connection of its own: one that is kept may be closed by the server at any moment.
    agent: false,
    timeout,
    ...(address.socket !== undefined && { socketPath: address.socket }),
  };
  const sent = send(`${address.base}${path}`, options);
  sent.on("timeout", () => sent.destroy(new Error(`nothing came for ${timeout / 1000} s`)));
  // One after the answer's head is thrown where the body is read.
  sent.on("error", () => {});
  const abort = () => {
    if (!(isKeptWhenSent && sent.writableFinished)) sent.destroy(new Error("aborted"));
  };
  signal?.addEventListener("abort", abort, { once: true });
  sent.on("close", () => signal?.removeEventListener("abort", abort));
  sent.end(body);
  try {
    const [message] = (await once(sent, "response")) as [IncomingMessage];
    return {
      status: message.statusCode!,
      header(name) {
        const value = message.headers[name];
        return Array.isArray(value) ? value.join(", ") : value;
      },
      body: bodyOf(message, address, signal),
    };
  } catch (error) {
    signal?.throwIfAborted();
    throw unreachable(address, error);
  }
}

/** All bytes of a body. Throws ServerLost for more than `most`. */
export async function bytesOf({ body }: HttpAnswer, address: ServerAddress, most: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > most) throw nonsense(address, `more than ${most} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts, length);
}

/** The refusal of what cannot be understood. */
export function nonsense({ text }: ServerAddress, found: string): ServerUnclear {
  return new ServerUnclear("QEDIT_E_NETWORK", `Cannot understand the server at ${text}: it answered ${found}`, {
    hint: `Check that it is a qedit server of this version, or edit here: ${param("server", "none")}`,
  });
}

async function* bodyOf(
  message: IncomingMessage,
  address: ServerAddress,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* message as AsyncIterable<Uint8Array>;
  } catch (error) {
    signal?.throwIfAborted();
    throw new ServerLost("QEDIT_E_NETWORK", `The server at ${address.text} broke off: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOENT: "there is no such socket",
  EACCES: "permission denied",
  ENOTSOCK: "it is no socket",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the name of the host cannot be looked up",
  ECONNRESET: "it broke off the connection",
  EPIPE: "it broke off the connection",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to it",
};

function unreachable({ text }: ServerAddress, error: unknown): ServerLost {
  return new ServerLost("QEDIT_E_NETWORK", `Cannot reach the server at ${text}: ${reasonOf(error)}`, {
    hint: `Start one: qedit serve, or edit here: ${param("server", "none")}`,
    cause: error,
  });
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  // Several addresses of a host fail together, without a message of their own.
  const first = error instanceof AggregateError ? (error.errors[0] as Error | undefined)?.message : undefined;
  return REASONS[code ?? ""] ?? (message || first || String(code));
}
