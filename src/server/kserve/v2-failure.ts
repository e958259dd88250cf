// Refusals as both doors answer them: those of the protocol, and the QeditErrors of an edit, have a status in HTTP and in gRPC.

import { ERRORS } from "../../edit/error-table.js";
import { CODE_HEADER } from "../../kserve/client/v2-client.js";
import { V2Error } from "../../kserve/v2-error.js";
import { type ErrorCode, failureOf, QeditError, spelled } from "../../std/errors.js";
import { asJsonKey, HttpError } from "../http/http-error.js";
import { withoutFolders } from "../without-folders.js";

/** An error as both doors answer it. */
export interface V2Failure {
  readonly http: number;
  /** Name of the gRPC status. */
  readonly grpc: string;
  /** The message, with the hint. */
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the error table; undefined for a refusal of the protocol itself. */
  readonly code?: ErrorCode;
}

/** https://grpc.io/docs/guides/status-codes */
const GRPC_OF_HTTP: Readonly<Record<number, string>> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  413: "RESOURCE_EXHAUSTED",
  501: "UNIMPLEMENTED",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};

/** Seconds after which a full or stopping server is worth another try. */
const RETRY_AFTER = "5";

/** What the doors say of an error. What was not foreseen says nothing of the machine. */
export function failureOfV2(error: unknown): V2Failure {
  if (error instanceof V2Error) return failure(error.status, GRPC_OF_HTTP[error.status]!, error.message);
  if (error instanceof HttpError) {
    const { hint, headers } = error.options;
    const text = withHint(error.message, hint);
    return { ...failure(error.status, GRPC_OF_HTTP[error.status] ?? "INVALID_ARGUMENT", text), headers: headers ?? {} };
  }
  const { code, message, hint } = failureOf(error);
  const { http, grpc } = ERRORS[code];
  if (!(error instanceof QeditError))
    return { ...failure(http, grpc, "Something failed that must not fail: see the server's log"), code };
  const failed = failure(http, grpc, withoutFolders(spelled(withHint(message, hint), asJsonKey)));
  return { ...failed, code, headers: { ...failed.headers, [CODE_HEADER]: code } };
}

function failure(http: number, grpc: string, text: string): V2Failure {
  return { http, grpc, text, headers: http === 429 || http === 503 ? { "retry-after": RETRY_AFTER } : {} };
}

function withHint(message: string, hint: string | undefined): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}
