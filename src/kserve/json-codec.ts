// Requests and answers of inference over HTTP: JSON, and JSON followed by the bytes of tensors (the binary extension).
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

import { fromBase64 } from "../std/base64.js";
import { shown } from "../std/foreign-text.js";
import { isObject } from "../std/guards.js";
import { jsonExcess } from "../std/json-limits.js";
import { elementCount } from "../std/tensor.js";
import {
  addTensor,
  type InferAnswer,
  type InferRequest,
  modelParameters,
  readId,
  readParameters,
  refuseExtensions,
  type WantedOutput,
} from "./infer-request.js";
import { V2Error } from "./v2-error.js";
import {
  bytesTensor,
  fromRaw,
  numbersOf,
  rawOfNumbers,
  readHead,
  refused,
  type TensorHead,
  toRaw,
  type V2Tensor,
  writtenShort,
} from "./v2-tensor.js";

/** The header that says how long the JSON before the bytes is. */
export const JSON_LENGTH = "inference-header-content-length";

/** Values of a tensor in JSON take many times their bytes in memory. */
export const JSON_LIMITS = { depth: 16, entries: 4_000_000 };
/** Bytes of JSON; more is sent as bytes. */
export const LONGEST_JSON = 64 * 1024 ** 2;

const REQUEST_KEYS = ["id", "inputs", "outputs", "parameters", "model_name", "model_version"];
const INPUT_KEYS = ["name", "shape", "datatype", "parameters", "data"];
const OUTPUT_KEYS = ["name", "parameters"];

/** Marks BYTES in JSON that are written in base64, as MLServer does. */
const BASE64 = { content_type: "base64" };

/** What a request came with. */
export interface RequestBody {
  readonly bytes: Uint8Array;
  /** The header of the JSON's length; undefined: all is JSON. */
  readonly jsonLength: string | undefined;
  /** The input whose one element a body without JSON is; undefined: the model has none. */
  readonly rawInput: string | undefined;
}

/** Reads a request. Throws V2Error. */
export function readInferRequest({ bytes, jsonLength, rawInput }: RequestBody): InferRequest {
  const length = jsonLength === undefined ? bytes.length : headerLength(jsonLength, bytes.length);
  if (jsonLength !== undefined && length === 0) return rawRequest(bytes, rawInput);
  const json = parseJson(bytes.subarray(0, length));
  refuseKeys(json, REQUEST_KEYS, "the request");
  if (!Array.isArray(json["inputs"])) throw new V2Error(400, 'Cannot use "inputs": a list is wanted');
  const tensors = new Map<string, V2Tensor>();
  let rest = bytes.subarray(length);
  for (const input of json["inputs"] as readonly unknown[]) {
    const { tensor, taken } = readInput(input, rest, jsonLength !== undefined);
    addTensor(tensors, tensor);
    rest = rest.subarray(taken);
  }
  if (rest.length > 0) throw new V2Error(400, `${rest.length} bytes after the JSON belong to no input`);
  const parameters = readParameters(json["parameters"], "the request");
  const isBinary = readSwitch(parameters["binary_data_output"], "binary_data_output") ?? false;
  return {
    id: readId(json["id"]),
    tensors,
    wanted: readWanted(json["outputs"], isBinary),
    isBinary,
    ...modelParameters(parameters),
  };
}

/** The body of an answer, and the length of the JSON before its bytes; undefined if all is JSON. */
export function writeInferAnswer(
  { id, model, outputs, parameters }: InferAnswer,
  { wanted, isBinary }: Pick<InferRequest, "wanted" | "isBinary">,
): { readonly body: Uint8Array; readonly jsonLength: number | undefined } {
  const binary: Uint8Array[] = [];
  const written = outputs.map((tensor, index) => {
    const { name, datatype, shape } = tensor;
    if (!(wanted?.[index]?.isBinary ?? isBinary)) return { name, datatype, shape, ...jsonValues(tensor) };
    const raw = toRaw(tensor);
    binary.push(raw);
    return { name, datatype, shape, parameters: { binary_data_size: raw.length } };
  });
  const hasParameters = Object.keys(parameters).length > 0;
  const json = Buffer.from(
    JSON.stringify({
      model_name: model,
      model_version: "1",
      ...(id !== undefined && { id }),
      ...(hasParameters && { parameters }),
      outputs: written,
    }),
  );
  if (binary.length === 0) return { body: json, jsonLength: undefined };
  return { body: Buffer.concat([json, ...binary]), jsonLength: json.length };
}

function headerLength(written: string, most: number): number {
  const length = /^\d{1,12}$/.test(written) ? Number(written) : Number.NaN;
  if (length <= most) return length;
  throw new V2Error(
    400,
    `Cannot use Inference-Header-Content-Length "${shown(written)}": a length within the body's ${most} bytes is wanted`,
  );
}

// The body is one element: a picture.
function rawRequest(bytes: Uint8Array, rawInput: string | undefined): InferRequest {
  if (rawInput === undefined)
    throw new V2Error(400, "Cannot take a body without JSON: this model's inputs need their shapes");
  const tensor = bytesTensor(rawInput, [bytes]);
  const tensors = new Map<string, V2Tensor>([[rawInput, tensor]]);
  return { id: undefined, tensors, wanted: undefined, isBinary: true, parameters: {}, timeout: undefined };
}

function parseJson(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  if (bytes.length > LONGEST_JSON)
    throw new V2Error(
      400,
      `The request's JSON has ${bytes.length} bytes, at most ${LONGEST_JSON}: send tensors as bytes`,
    );
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new V2Error(400, "The request is not JSON: it is no UTF-8");
  }
  const excess = jsonExcess(text, JSON_LIMITS);
  if (excess !== undefined) throw new V2Error(400, `The request's JSON ${excess}: send tensors as bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new V2Error(400, `The request is not JSON: ${shown((error as Error).message)}`);
  }
  if (isObject(value)) return value;
  throw new V2Error(400, "The request is JSON, but no object");
}

function refuseKeys(value: Readonly<Record<string, unknown>>, known: readonly string[], of: string): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined)
    throw new V2Error(400, `Cannot use "${shown(unknown)}" of ${of}: wanted ${known.join(", ")}`);
}

function readInput(input: unknown, rest: Uint8Array, hasBytes: boolean): { tensor: V2Tensor; taken: number } {
  if (!isObject(input)) throw new V2Error(400, 'Cannot use "inputs": a list of objects is wanted');
  const { name, datatype, shape, data } = input;
  const head = readHead(name, datatype, shape);
  refuseKeys(input, INPUT_KEYS, `"${shown(head.name)}"`);
  const parameters = readParameters(input["parameters"], `"${shown(head.name)}"`);
  refuseExtensions(head.name, parameters, ["binary_data_size", "content_type"]);
  const { binary_data_size: size, content_type: content } = parameters;
  const hasData = data !== undefined && data !== null;
  if (size === undefined && hasData) return { tensor: fromJson(head, data, content), taken: 0 };
  if (size === undefined) throw refused(head.name, "it has neither data nor binary_data_size");
  if (hasData) throw refused(head.name, "it has both data and binary_data_size");
  if (content !== undefined) throw refused(head.name, '"content_type" has no effect on bytes');
  if (!hasBytes) throw refused(head.name, "its bytes follow the JSON, but Inference-Header-Content-Length is missing");
  if (!Number.isSafeInteger(size) || (size as number) < 0 || (size as number) > rest.length)
    throw refused(head.name, `its binary_data_size is ${writtenShort(size)}, and ${rest.length} bytes follow`);
  return { tensor: fromRaw(head, rest.subarray(0, size as number)), taken: size as number };
}

function readWanted(outputs: unknown, isBinary: boolean): readonly WantedOutput[] | undefined {
  if (outputs === undefined || outputs === null) return undefined;
  if (!Array.isArray(outputs)) throw new V2Error(400, 'Cannot use "outputs": a list is wanted');
  if (outputs.length === 0) return undefined;
  return outputs.map((output: unknown) => {
    if (!isObject(output) || typeof output["name"] !== "string")
      throw new V2Error(400, 'Cannot use "outputs": a list of objects with a "name" is wanted');
    const { name } = output;
    refuseKeys(output, OUTPUT_KEYS, `"${shown(name as string)}"`);
    const parameters = readParameters(output["parameters"], `"${shown(name as string)}"`);
    refuseExtensions(name as string, withoutZero(parameters), ["binary_data"]);
    return { name: name as string, isBinary: readSwitch(parameters["binary_data"], "binary_data") ?? isBinary };
  });
}

// Clients send `classification: 0` where none is wanted.
function withoutZero({ classification, ...rest }: Readonly<Record<string, unknown>>) {
  return classification === undefined || classification === 0 ? rest : { ...rest, classification };
}

function readSwitch(value: unknown, name: string): boolean | undefined {
  if (value === undefined || value === null || typeof value === "boolean") return value ?? undefined;
  throw new V2Error(400, `Cannot use the parameter "${name}": true or false is wanted`);
}

/** A tensor from its values in JSON. Throws V2Error. */
export function fromJson(head: TensorHead, data: unknown, content: unknown): V2Tensor {
  const { name, datatype, shape } = head;
  if (datatype === "FP16" || datatype === "BF16")
    throw refused(name, `${datatype} has no form in JSON: send its bytes with binary_data_size`);
  const values = flattened(data, head);
  if (values.length !== elementCount(shape))
    throw refused(name, `[${shape.join(", ")}] holds ${elementCount(shape)} elements, its data ${values.length}`);
  if (content !== undefined && (content !== BASE64.content_type || datatype !== "BYTES"))
    throw refused(name, `its content_type is ${writtenShort(content)}: only BYTES may be in base64`);
  if (datatype !== "BYTES") return fromRaw(head, rawOfNumbers(head, values));
  const elements = values.map((value) => {
    if (typeof value !== "string") throw refused(name, "its data are texts");
    return content === undefined ? Buffer.from(value) : fromBase64(value, name);
  });
  return { name, datatype, shape, elements };
}

// Flat, or in lists as deep as the shape.
function flattened(data: unknown, { name, shape }: TensorHead): readonly unknown[] {
  if (!Array.isArray(data)) throw refused(name, 'its "data" is no list');
  if (!data.some(Array.isArray)) return data as readonly unknown[];
  let level: readonly unknown[] = [data];
  for (const length of shape) {
    if (!level.every((each) => Array.isArray(each) && each.length === length))
      throw refused(name, `its lists are not those of [${shape.join(", ")}]`);
    level = (level as readonly (readonly unknown[])[]).flat();
  }
  return level;
}

// Pictures are no texts: base64 tells them apart.
function jsonValues(tensor: V2Tensor): { readonly data: readonly unknown[]; readonly parameters?: object } {
  const { name, datatype } = tensor;
  if (datatype !== "BYTES") {
    if (datatype === "FP16" || datatype === "BF16") throw refused(name, `${datatype} has no form in JSON`);
    return { data: numbersOf(tensor).map((value) => (typeof value === "bigint" ? Number(value) : value)) };
  }
  const encoding = tensor.isBinary ? "base64" : "utf8";
  const data = tensor.elements.map((each) => Buffer.from(each).toString(encoding));
  return tensor.isBinary ? { data, parameters: BASE64 } : { data };
}
