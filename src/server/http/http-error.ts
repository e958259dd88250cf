// Errors as HTTP answers: OpenAI's JSON shape, with the status of the error table. Parameters are written as JSON names.
// https://platform.openai.com/docs/guides/error-codes
import type { Context } from "hono";
import { ERRORS } from "../../edit/error-table.js";
import { type ErrorCode, failureOf, param, QeditError, type Spell, spelled } from "../../std/errors.js";
import { withoutFolders } from "../without-folders.js";
import type { HttpEnv } from "./http-context.js";

/** Parameters as in JSON: `"steps": 4`. */
export const asJsonKey: Spell = (name, value) => (value === undefined ? `"${name}"` : `"${name}": ${value}`);

/** Parameters stay marked, for a client that spells them in its own way. */
const asMarked: Spell = param;

/** Header of requests by which qedit's own client asks for texts whose parameters are marked: `x-qedit-texts: marked`. */
const TEXTS_HEADER = "x-qedit-texts";

/** Writes a text of the core as a client reads it. */
export type WriteText = (text: string) => string;

/** How the texts of an answer are written: parameters as the client spells them, and paths for programs on this machine's own socket alone. */
export function textsOf({ req, env }: Pick<Context<HttpEnv>, "req" | "env">): WriteText {
  const spell = req.header(TEXTS_HEADER) === "marked" ? asMarked : asJsonKey;
  return env.isLocalSocket === true ? (text) => spelled(text, spell) : (text) => forNetwork(text, spell);
}

function forNetwork(text: string, spell: Spell = asJsonKey): string {
  return withoutFolders(spelled(text, spell));
}

/** An answer of the protocol itself, which no other interface has: a wrong method, an unknown path, a missing key. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly options: {
      readonly hint?: string;
      readonly parameter?: string;
      readonly headers?: Record<string, string>;
    } = {},
  ) {
    super(message);
  }
}

/** The error for a method that a path does not have. */
export function methodNotAllowed(method: string, allowed: readonly string[]): HttpError {
  return new HttpError(405, "method_not_allowed", `${method} is not answered here`, {
    headers: { allow: allowed.join(", ") },
  });
}

/** The parts of an error's answer. */
export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly error: ErrorBody };
}

/** The JSON of an error; `qedit_code` and `hint` are ours. */
export interface ErrorBody {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
  readonly qedit_code: ErrorCode | null;
  readonly hint: string | null;
}

/** Seconds after which a full or stopping server is worth another try. */
const RETRY_AFTER = 5;

/** The answer of an error. What was not foreseen is QEDIT_E_INTERNAL, and says nothing of the machine. */
export function errorAnswer(error: unknown, write: WriteText = forNetwork): ErrorAnswer {
  if (error instanceof HttpError) return protocolAnswer(error);
  const failure = failureOf(error);
  const { code } = failure;
  const { http: status, api, isRetryable = false } = ERRORS[code];
  const isKnown = error instanceof QeditError;
  const message = isKnown ? write(failure.message) : "Something failed that must not fail: see the server's log";
  const hint = failure.hint === undefined ? null : write(failure.hint);
  return {
    status,
    headers: {
      ...(status === 409 || status === 429 || status >= 500 ? { "x-should-retry": String(isRetryable) } : {}),
      ...(status === 429 || status === 503 ? { "retry-after": String(RETRY_AFTER) } : {}),
    },
    body: {
      error: {
        message,
        type: typeOf(status),
        param: isKnown ? (error.parameter ?? null) : null,
        code: api,
        qedit_code: code,
        hint,
      },
    },
  };
}

function protocolAnswer({ status, code, message, options: { hint, parameter, headers = {} } }: HttpError): ErrorAnswer {
  return {
    status,
    headers,
    body: {
      error: { message, type: typeOf(status), param: parameter ?? null, code, qedit_code: null, hint: hint ?? null },
    },
  };
}

// As OpenAI names the kinds.
function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}
