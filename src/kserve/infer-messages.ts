// Messages of inference over gRPC as requests and answers, and back.
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
import { type Spell, spelled } from "../std/errors.js";
import type { ProgressEvent } from "../std/events.js";
import { elementCount } from "../std/tensor.js";
import {
  addTensor,
  type InferAnswer,
  type InferRequest,
  modelParameters,
  readId,
  refuseExtensions,
  VERSION,
} from "./infer-request.js";
import { V2Error } from "./v2-error.js";
import { fromRaw, rawOfNumbers, readHead, refused, type TensorHead, toRaw, type V2Tensor } from "./v2-tensor.js";

/** A parameter; exactly one field is there. 64-bit numbers are texts. */
export interface InferParameter {
  readonly bool_param?: boolean;
  readonly int64_param?: string;
  readonly string_param?: string;
  readonly double_param?: number;
  readonly uint64_param?: string;
}

type Parameters = Readonly<Record<string, InferParameter>>;

/** Values by the field of their datatype. */
type Contents = Readonly<Partial<Record<ContentsField, readonly unknown[]>>>;

type ContentsField =
  | "bool_contents"
  | "int_contents"
  | "int64_contents"
  | "uint_contents"
  | "uint64_contents"
  | "fp32_contents"
  | "fp64_contents"
  | "bytes_contents";

/** InferInputTensor, and InferOutputTensor as it is decoded: their fields are the same. */
interface DecodedTensor {
  readonly name?: string;
  readonly datatype?: string;
  readonly shape?: readonly string[];
  readonly parameters?: Parameters;
  readonly contents?: Contents | null;
}

/** ModelInferRequest as it is decoded. */
export interface ModelInferRequest {
  readonly model_name?: string;
  readonly model_version?: string;
  readonly id?: string;
  readonly parameters?: Parameters;
  readonly inputs?: readonly DecodedTensor[];
  readonly outputs?: readonly { readonly name?: string; readonly parameters?: Parameters }[];
  readonly raw_input_contents?: readonly Uint8Array[];
}

/** ModelInferResponse as it is encoded. */
export interface ModelInferResponse {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly outputs: readonly { readonly name: string; readonly datatype: string; readonly shape: readonly number[] }[];
  readonly raw_output_contents: readonly Uint8Array[];
}

/** ModelInferResponse as it is decoded. */
export interface ModelInferAnswer {
  readonly parameters?: Parameters;
  readonly outputs?: readonly DecodedTensor[];
  readonly raw_output_contents?: readonly Uint8Array[];
}

/** The field of each datatype's values; 16-bit floats have none. */
const FIELDS: Readonly<Record<string, ContentsField>> = {
  BOOL: "bool_contents",
  UINT8: "uint_contents",
  INT32: "int_contents",
  INT64: "int64_contents",
  FP32: "fp32_contents",
  BYTES: "bytes_contents",
};

/** Reads a request. Throws V2Error. */
export function readMessage(message: ModelInferRequest): InferRequest {
  const { inputs = [], outputs = [], raw_input_contents: raw = [] } = message;
  if (raw.length > 0 && raw.length !== inputs.length)
    throw new V2Error(400, `raw_input_contents has ${raw.length} elements, and there are ${inputs.length} inputs`);
  const tensors = new Map<string, V2Tensor>();
  for (const [index, input] of inputs.entries()) addTensor(tensors, readInput(input, raw[index]));
  for (const { name = "", parameters } of outputs)
    refuseExtensions(name, withoutZero(readParameterMap(parameters)), ["binary_data"]);
  return {
    id: readId(message.id),
    tensors,
    wanted: outputs.length === 0 ? undefined : outputs.map(({ name = "" }) => ({ name, isBinary: true })),
    isBinary: true,
    ...modelParameters(readParameterMap(message.parameters)),
  };
}

/** The response that an answer is. */
export function writeMessage({ id, model, outputs, parameters }: InferAnswer): ModelInferResponse {
  return {
    model_name: model,
    model_version: VERSION,
    id: id ?? "",
    parameters: writeParameterMap(parameters),
    outputs: outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    raw_output_contents: outputs.map(toRaw),
  };
}

/** The message of a request of a client. */
export function writeRequestMessage({
  model,
  tensors,
  parameters,
}: {
  readonly model: string;
  readonly tensors: readonly V2Tensor[];
  readonly parameters: Readonly<Record<string, unknown>>;
}): object {
  return {
    model_name: model,
    parameters: writeParameterMap(parameters),
    inputs: tensors.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    raw_input_contents: tensors.map(toRaw),
  };
}

/** The outputs and parameters of an answer that a client got. Throws V2Error. */
export function readAnswerMessage(message: ModelInferAnswer | null | undefined): {
  readonly outputs: ReadonlyMap<string, V2Tensor>;
  readonly parameters: Readonly<Record<string, unknown>>;
} {
  const { outputs = [], raw_output_contents: raw = [], parameters } = message ?? {};
  if (raw.length > 0 && raw.length !== outputs.length)
    throw new V2Error(400, `raw_output_contents has ${raw.length} elements, and there are ${outputs.length} outputs`);
  const tensors = new Map<string, V2Tensor>();
  for (const [index, output] of outputs.entries()) addTensor(tensors, readDecoded(output, raw[index]), "output");
  return { outputs: tensors, parameters: readParameterMap(parameters) };
}

/** The response that reports progress: an event's fields as parameters, lists as JSON; `spell` writes the parameters that its texts name. */
export function writeProgress(
  { kind, ...fields }: ProgressEvent,
  { id, model, spell }: { readonly id: string; readonly model: string; readonly spell: Spell },
): ModelInferResponse {
  const written = Object.entries(fields).map(([name, value]) => [
    name,
    typeof value === "string" ? spelled(value, spell) : value,
  ]);
  const parameters = { event: kind, ...Object.fromEntries(written), triton_final_response: false };
  return writeMessage({ id, model, outputs: [], parameters });
}

/** Parameters by name, as their values. Whole numbers beyond 2^53 stay texts, which lose no digits. */
export function readParameterMap(parameters: Parameters = {}): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(parameters).map(([name, parameter]) => [name, valueOf(name, parameter)]));
}

function writeParameterMap(parameters: Readonly<Record<string, unknown>>): Parameters {
  const known = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(known.map(([name, value]) => [name, parameterOf(value)]));
}

function parameterOf(value: unknown): InferParameter {
  if (typeof value === "boolean") return { bool_param: value };
  if (typeof value === "number")
    return Number.isSafeInteger(value) ? { int64_param: String(value) } : { double_param: value };
  return { string_param: typeof value === "string" ? value : JSON.stringify(value) };
}

function valueOf(name: string, parameter: InferParameter): unknown {
  const { bool_param: truth, string_param: text, double_param: number } = parameter;
  const whole = parameter.int64_param ?? parameter.uint64_param;
  if (whole !== undefined) return Number.isSafeInteger(Number(whole)) ? Number(whole) : whole;
  const value = truth ?? text ?? number;
  if (value === undefined) throw new V2Error(400, `The parameter "${name.slice(0, 100)}" has no value`);
  return value;
}

function readInput(input: DecodedTensor, raw: Uint8Array | undefined): V2Tensor {
  const tensor = readDecoded(input, raw);
  refuseExtensions(tensor.name, readParameterMap(input.parameters), []);
  return tensor;
}

function readDecoded(given: DecodedTensor, raw: Uint8Array | undefined): V2Tensor {
  const head = readHead(given.name ?? "", given.datatype ?? "", (given.shape ?? []).map(Number));
  const contents = Object.entries(given.contents ?? {}).filter(([, values]) => values.length > 0);
  if (raw === undefined) return fromContents(head, contents);
  if (contents.length > 0) throw refused(head.name, "it has both contents and raw_input_contents");
  return fromRaw(head, raw);
}

function fromContents(head: TensorHead, contents: readonly (readonly [string, readonly unknown[]])[]): V2Tensor {
  const { name, datatype, shape } = head;
  const field = FIELDS[datatype];
  if (field === undefined) throw refused(name, `${datatype} has no contents: send it in raw_input_contents`);
  const other = contents.find(([key]) => key !== field);
  if (other !== undefined) throw refused(name, `wanted ${field} for ${datatype}, found ${other[0]}`);
  const values = contents[0]?.[1] ?? [];
  if (values.length !== elementCount(shape))
    throw refused(name, `[${shape.join(", ")}] holds ${elementCount(shape)} elements, its contents ${values.length}`);
  if (datatype === "BYTES") return { name, datatype, shape, elements: values as readonly Uint8Array[] };
  return fromRaw(head, rawOfNumbers(head, values));
}

// Clients send `classification: 0` where none is wanted.
function withoutZero({ classification, ...rest }: Readonly<Record<string, unknown>>) {
  return classification === undefined || classification === 0 ? rest : { ...rest, classification };
}
