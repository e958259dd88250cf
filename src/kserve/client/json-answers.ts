// Requests and answers of a client over HTTP: JSON followed by the bytes of tensors (the binary extension).
import { isObject } from "../../std/guards.js";
import { jsonExcess } from "../../std/json-limits.js";
import { addTensor } from "../infer-request.js";
import { fromJson, JSON_LIMITS, LONGEST_JSON } from "../json-codec.js";
import { V2Error } from "../v2-error.js";
import { fromRaw, readHead, refused, toRaw, type V2Tensor, writtenShort } from "../v2-tensor.js";
import type { ReceivedAnswer, SentRequest } from "./v2-client.js";

/** The body of a request, and the length of the JSON before its bytes. */
export function writeInferRequest({ tensors, parameters }: Omit<SentRequest, "model">): {
  readonly body: Uint8Array;
  readonly jsonLength: number;
} {
  const raws = tensors.map(toRaw);
  const inputs = tensors.map(({ name, datatype, shape }, index) => ({
    ...{ name, datatype, shape },
    parameters: { binary_data_size: raws[index]!.length },
  }));
  const json = Buffer.from(JSON.stringify({ inputs, parameters: { ...parameters, binary_data_output: true } }));
  return { body: Buffer.concat([json, ...raws]), jsonLength: json.length };
}

/** Reads an answer. Throws V2Error. */
export function readInferAnswer(bytes: Uint8Array, written: string | undefined): ReceivedAnswer {
  const length = written === undefined ? bytes.length : /^\d{1,12}$/.test(written) ? Number(written) : Number.NaN;
  if (!(length <= bytes.length)) throw new V2Error(400, "the length of its JSON is not within its body");
  const json = parsedJson(bytes.subarray(0, length));
  const outputs = json["outputs"];
  if (!Array.isArray(outputs)) throw new V2Error(400, 'it has no list "outputs"');
  const tensors = new Map<string, V2Tensor>();
  let rest = bytes.subarray(length);
  for (const output of outputs as readonly unknown[]) {
    if (!isObject(output)) throw new V2Error(400, '"outputs" is no list of objects');
    const head = readHead(output["name"], output["datatype"], output["shape"]);
    const parameters = isObject(output["parameters"]) ? output["parameters"] : {};
    const { binary_data_size: size, content_type: content } = parameters;
    if (size === undefined) {
      // Other servers name other content types of texts.
      addTensor(tensors, fromJson(head, output["data"], content === "base64" ? content : undefined), "output");
      continue;
    }
    if (!Number.isSafeInteger(size) || (size as number) < 0 || (size as number) > rest.length)
      throw refused(head.name, `its binary_data_size is ${writtenShort(size)}, and ${rest.length} bytes follow`);
    addTensor(tensors, fromRaw(head, rest.subarray(0, size as number)), "output");
    rest = rest.subarray(size as number);
  }
  if (rest.length > 0) throw new V2Error(400, `${rest.length} bytes after the JSON belong to no output`);
  return { outputs: tensors, parameters: isObject(json["parameters"]) ? json["parameters"] : {} };
}

/** Bytes as a JSON object. Throws V2Error. */
export function parsedJson(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  if (bytes.length > LONGEST_JSON) throw new V2Error(400, `its JSON is longer than ${LONGEST_JSON} bytes`);
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8");
  const excess = jsonExcess(text, JSON_LIMITS);
  if (excess !== undefined) throw new V2Error(400, `its JSON ${excess}`);
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // Said below.
  }
  throw new V2Error(400, "it is no JSON object");
}
