// A request for inference and its answer, as both doors hand them on.

import { shown } from "../std/foreign-text.js";
import { isObject } from "../std/guards.js";
import { V2Error } from "./v2-error.js";
import type { V2Tensor } from "./v2-tensor.js";

/** The one version of every model of qedit. */
export const VERSION = "1";

/** An output that is wanted. */
export interface WantedOutput {
  readonly name: string;
  /** Whether its bytes follow the JSON; gRPC has no JSON. */
  readonly isBinary: boolean;
}

/** A request. */
export interface InferRequest {
  readonly id: string | undefined;
  readonly tensors: ReadonlyMap<string, V2Tensor>;
  /** The outputs in the order in which they are wanted; undefined: all. */
  readonly wanted: readonly WantedOutput[] | undefined;
  /** Whether outputs that nobody named follow the JSON as bytes. */
  readonly isBinary: boolean;
  /** Those of the model: the protocol's own are taken out. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Milliseconds after which nobody waits for the answer. */
  readonly timeout: number | undefined;
}

/** The answer. */
export interface InferAnswer {
  readonly id: string | undefined;
  readonly model: string;
  readonly outputs: readonly V2Tensor[];
  readonly parameters: Readonly<Record<string, unknown>>;
}

const LONGEST_ID = 256;
const MICROSECONDS = 1000;
/** The longest delay of a timer, 24 days. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Parameters that Triton's clients send, and that mean nothing here. */
const IGNORED = ["triton_enable_empty_final_response", "binary_data_output"];

/** Parameters of Triton that ask for what is not done here. */
const UNSUPPORTED = ["sequence_id", "sequence_start", "sequence_end", "priority"];

/** An id that is given back. Throws V2Error for one that is no short text. */
export function readId(id: unknown): string | undefined {
  if (id === undefined || id === null || id === "") return undefined;
  if (typeof id === "string" && id.length <= LONGEST_ID) return id;
  throw new V2Error(400, `Cannot use "id": a text of up to ${LONGEST_ID} characters is wanted`);
}

/** Parameters as an object. Throws V2Error for anything else. */
export function readParameters(value: unknown, of: string): Readonly<Record<string, unknown>> {
  if (value === undefined || value === null) return {};
  if (isObject(value)) return value;
  throw new V2Error(400, `Cannot use "parameters" of ${of}: an object is wanted`);
}

/** The parameters of the model, and the protocol's timeout. Throws V2Error for what is not done here. */
export function modelParameters(
  parameters: Readonly<Record<string, unknown>>,
): Pick<InferRequest, "parameters" | "timeout"> {
  const { timeout, ...rest } = parameters;
  const unsupported = UNSUPPORTED.find((name) => name in rest && !isUnset(rest[name]));
  if (unsupported !== undefined) throw new V2Error(400, `The parameter "${unsupported}" is not supported`);
  const known = Object.entries(rest).filter(([name]) => !IGNORED.includes(name) && !UNSUPPORTED.includes(name));
  return { parameters: Object.fromEntries(known), timeout: timeoutOf(timeout) };
}

/** Adds a tensor to those of a request or an answer. Throws V2Error if it has one of this name. */
export function addTensor(tensors: Map<string, V2Tensor>, tensor: V2Tensor, what: "input" | "output" = "input"): void {
  if (tensors.has(tensor.name)) throw new V2Error(400, `The ${what} "${shown(tensor.name)}" is given twice`);
  tensors.set(tensor.name, tensor);
}

/** Refuses what an input or an output asks for besides its values: shared memory, classification. */
export function refuseExtensions(
  name: string,
  parameters: Readonly<Record<string, unknown>>,
  known: readonly string[],
) {
  const unknown = Object.keys(parameters).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new V2Error(400, `Cannot use "${shown(name)}": its parameter "${shown(unknown)}" is not supported`);
}

// What clients send when they want nothing of it.
function isUnset(value: unknown): boolean {
  return value === 0 || value === false || value === "" || value === null;
}

// In microseconds, as Triton has it; 0: none.
function timeoutOf(given: unknown): number | undefined {
  if (given === undefined || given === null) return undefined;
  const value = typeof given === "string" && /^\d{1,16}$/.test(given) ? Number(given) : given;
  if (value === 0) return undefined;
  if (Number.isSafeInteger(value) && (value as number) > 0)
    return Math.min(Math.ceil((value as number) / MICROSECONDS), LONGEST_TIMER);
  throw new V2Error(400, 'Cannot use the parameter "timeout": whole microseconds are wanted');
}
