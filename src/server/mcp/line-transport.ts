// The transport of MCP over lines of JSON. The SDK's own leaves what is no valid request without an answer, for which a client then waits.
// https://www.jsonrpc.org/specification#error_object
import type { Readable, Writable } from "node:stream";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  CallToolRequestSchema,
  ErrorCode,
  InitializeRequestSchema,
  type JSONRPCMessage,
  JSONRPCMessageSchema,
  ListToolsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { isObject } from "../../std/guards.js";
import { type DroppedLine, messageLines } from "./message-lines.js";

/** Requests whose parameters are looked at here: the SDK answers wrong ones as an internal error. */
const REQUESTS = {
  initialize: InitializeRequestSchema,
  "tools/list": ListToolsRequestSchema,
  "tools/call": CallToolRequestSchema,
};

/** Characters of a reason that an answer says. */
const LONGEST_REASON = 500;

/** Where an id stands in a request of which only the ends are known: behind the names that clients write before it, or last. */
const ID_AT_START = /^\s*\{(?:\s*"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,)*\s*"id"\s*:\s*(-?\d+|"[^"\\]*")\s*,/;
const ID_AT_END = /,\s*"id"\s*:\s*(-?\d+|"[^"\\]*")\s*\}\s*$/;
const RESPONSE_START = /^\s*\{(?:\s*"(?:jsonrpc|id)"\s*:\s*(?:-?\d+|"[^"\\]*")\s*,)*\s*"(?:result|error)"\s*:/;

/** The streams of a transport. */
export interface LineStreams {
  readonly stdin: Readable;
  readonly stdout: Writable | NodeJS.WritableStream;
  /** Bytes of the longest line. */
  readonly most: number;
  /** Reports a line that was dropped. */
  readonly warn: (text: string) => void;
}

type Id = string | number | null;

/** Opens the transport; `ended` resolves when stdin ends or fails. */
export function lineTransport({ stdin, stdout, most, warn }: LineStreams): {
  readonly transport: Transport;
  readonly ended: Promise<void>;
} {
  let finish = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let isOpen = true;
  const write = (message: object) =>
    new Promise<void>((resolve) => {
      if (stdout.write(`${JSON.stringify(message)}\n`)) resolve();
      else stdout.once("drain", resolve);
    });
  const refuse = (id: Id, code: ErrorCode, reason: string) =>
    void write({ jsonrpc: "2.0", id, error: { code, message: reason.slice(0, LONGEST_REASON) } });
  const dropped = ({ start, end }: DroppedLine) => {
    const text = `a message of more than ${most} bytes was dropped`;
    warn(text);
    if (RESPONSE_START.test(start)) return;
    const id = ID_AT_START.exec(start) ?? ID_AT_END.exec(end);
    refuse(id === null ? null : (JSON.parse(id[1]!) as Id), ErrorCode.InvalidRequest, text);
  };

  const read = async () => {
    for await (const line of messageLines(stdin, most, dropped)) {
      if (!isOpen) return;
      const text = line.toString("utf8").trim();
      if (text !== "") take(text);
    }
  };
  const take = (text: string) => {
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      warn("a line that is no JSON was dropped");
      refuse(null, ErrorCode.ParseError, "The line is no JSON");
      return;
    }
    try {
      const fault = faultOf(message);
      if (fault === undefined) transport.onmessage?.(message as JSONRPCMessage);
      else answer(message, fault);
    } catch (error) {
      // Schemas read nested values by recursion, which ends with the stack.
      answer(message, { code: ErrorCode.InvalidRequest, reason: `The message cannot be read: ${String(error)}` });
    }
  };
  const answer = (message: unknown, { code, reason }: Fault) => {
    transport.onerror?.(new Error(reason));
    if (!isResponse(message)) refuse(idOf(message), code, reason);
  };

  const transport: Transport = {
    async start() {
      read()
        .catch((error: Error) => isOpen && transport.onerror?.(error))
        .finally(finish);
    },
    send: write,
    async close() {
      isOpen = false;
      transport.onclose?.();
    },
  };
  return { transport, ended };
}

interface Fault {
  readonly code: ErrorCode;
  readonly reason: string;
}

function faultOf(message: unknown): Fault | undefined {
  if (!JSONRPCMessageSchema.safeParse(message).success)
    return { code: ErrorCode.InvalidRequest, reason: "The message is no request of JSON-RPC 2.0" };
  const { method } = message as { method?: string };
  const schema = Object.hasOwn(REQUESTS, method ?? "") ? REQUESTS[method as keyof typeof REQUESTS] : undefined;
  const issue = schema?.safeParse(message).error?.issues[0];
  if (issue === undefined) return undefined;
  return { code: ErrorCode.InvalidParams, reason: `Invalid ${issue.path.join(".")} of ${method}: ${issue.message}` };
}

function isResponse(message: unknown): boolean {
  return isObject(message) && !("method" in message) && ("result" in message || "error" in message);
}

function idOf(message: unknown): Id {
  const id = isObject(message) ? message["id"] : undefined;
  return typeof id === "string" || typeof id === "number" ? id : null;
}
