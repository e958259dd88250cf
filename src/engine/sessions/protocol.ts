// Messages between a client and the server that owns the sessions, in a worker thread or in a child process alike.
import type { ErrorCode } from "../../std/errors.js";
import type { Tensor, Tensors, TensorType } from "../../std/tensor.js";
import type { KeptNames, Model } from "./engine.js";

/** A tensor that the server keeps under a number. */
export interface KeptNumber {
  readonly kept: number;
}

/** What is known of a tensor that the server keeps. */
export interface KeptInfo extends KeptNumber {
  readonly type: TensorType;
  readonly shape: readonly number[];
}

/** Feeds of a run, those that the server keeps by number. */
export type SentFeeds = Readonly<Record<string, Tensor | KeptNumber>>;

/** A client's request; the server answers each one once, under its id. */
export type Request =
  | { readonly id: number; readonly kind: "open"; readonly model: Model }
  | { readonly id: number; readonly kind: "run"; readonly session: number; readonly feeds: SentFeeds }
  | {
      readonly id: number;
      readonly kind: "run kept";
      readonly session: number;
      readonly feeds: SentFeeds;
      readonly names: KeptNames;
    }
  | { readonly id: number; readonly kind: "keep"; readonly tensors: Tensors }
  | { readonly id: number; readonly kind: "take"; readonly kept: number }
  | { readonly id: number; readonly kind: "release"; readonly kept: number }
  | { readonly id: number; readonly kind: "dispose"; readonly session: number }
  | { readonly id: number; readonly kind: "close" };

/** The result of each kind of request. */
export interface Results {
  /** Number of the session. */
  readonly open: number;
  readonly run: Tensors;
  readonly "run kept": Readonly<Record<string, Tensor | KeptInfo>>;
  readonly keep: Readonly<Record<string, KeptInfo>>;
  /** The tensor, which is not kept any more. */
  readonly take: Readonly<Record<"tensor", Tensor>>;
  readonly release: undefined;
  readonly dispose: undefined;
  readonly close: undefined;
}

/** A failure as plain data: errors lose their class between threads and processes. */
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
