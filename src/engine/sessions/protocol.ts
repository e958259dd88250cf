// Messages between the main thread and the worker that owns the sessions.
import type { ErrorCode } from "../../std/errors.js";
import type { Tensors } from "../../std/tensor.js";
import type { Model } from "./engine.js";

/** What the main thread asks; every request is answered once, under its id. */
export type Request =
  | { readonly id: number; readonly kind: "open"; readonly model: Model }
  | { readonly id: number; readonly kind: "run"; readonly session: number; readonly feeds: Tensors }
  | { readonly id: number; readonly kind: "dispose"; readonly session: number }
  | { readonly id: number; readonly kind: "close" };

/** What each kind of request is answered with. */
export interface Results {
  /** number of the session */
  readonly open: number;
  readonly run: Tensors;
  readonly dispose: undefined;
  readonly close: undefined;
}

/** A failure as plain data: errors lose their class on the way between threads. */
export interface Failure {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly hint: string | undefined;
  readonly stack: string | undefined;
}

/** The answer to one request. */
export type Response = { readonly id: number } & (
  | { readonly result: Results[Request["kind"]] }
  | { readonly failure: Failure }
);
