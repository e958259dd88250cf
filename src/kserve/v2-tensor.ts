// Tensors of the inference protocol (KServe V2), as bytes in the order of the wire: little-endian, row-major. Nothing is allocated by what a
// shape claims: it is held against the bytes that are there.
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol

import { shown } from "../std/foreign-text.js";
import { fromBfloat16, fromFloat16 } from "../std/half-floats.js";
import { elementCount, float32, type Tensor, tensor } from "../std/tensor.js";
import { V2Error } from "./v2-error.js";

/** Bytes of an element; of BYTES the length before each. */
const SIZES = { BOOL: 1, UINT8: 1, INT32: 4, INT64: 8, FP16: 2, BF16: 2, FP32: 4, BYTES: 4 } as const;

/** The datatypes that the models here read or write. */
export type Datatype = keyof typeof SIZES;

/** Most dimensions of a shape. */
const MOST_DIMENSIONS = 8;
/** Most byte strings of a tensor: each takes many times its bytes in memory, and requests have pictures, names and texts. */
const MOST_STRINGS = 1024;

/** A tensor of numbers or truths: `data` as it is on the wire. */
export interface NumericTensor {
  readonly name: string;
  readonly datatype: Exclude<Datatype, "BYTES">;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A tensor of byte strings. */
export interface BytesTensor {
  readonly name: string;
  readonly datatype: "BYTES";
  readonly shape: readonly number[];
  readonly elements: readonly Uint8Array[];
  /** Whether the elements are no texts: pictures. */
  readonly isBinary?: boolean;
}

/** A tensor. */
export type V2Tensor = NumericTensor | BytesTensor;

/** What a request says of a tensor before its values. */
export interface TensorHead {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

/** The name, datatype and shape of a tensor. Throws V2Error for what these models do not have. */
export function readHead(name: unknown, datatype: unknown, shape: unknown): TensorHead {
  if (typeof name !== "string" || name === "") throw new V2Error(400, 'A tensor lacks its "name"');
  if (typeof datatype !== "string" || !Object.hasOwn(SIZES, datatype))
    throw refused(name, `its datatype is ${writtenShort(datatype)}, wanted one of ${Object.keys(SIZES).join(", ")}`);
  const isShape =
    Array.isArray(shape) &&
    shape.length <= MOST_DIMENSIONS &&
    shape.every((length) => Number.isSafeInteger(length) && (length as number) >= 0);
  if (!isShape || !Number.isSafeInteger(elementCount(shape as number[])))
    throw refused(name, `its shape is ${writtenShort(shape)}, wanted up to ${MOST_DIMENSIONS} whole numbers`);
  const count = elementCount(shape as number[]);
  if (datatype === "BYTES" && count > MOST_STRINGS)
    throw refused(name, `it has ${count} byte strings, at most ${MOST_STRINGS} are allowed`);
  return { name, datatype: datatype as Datatype, shape: shape as number[] };
}

/** A tensor from its bytes on the wire. Throws V2Error if they are not exactly those of its shape. */
export function fromRaw({ name, datatype, shape }: TensorHead, bytes: Uint8Array): V2Tensor {
  if (datatype === "BYTES") return { name, datatype, shape, elements: elementsOf({ name, shape }, bytes) };
  const wanted = elementCount(shape) * SIZES[datatype];
  if (bytes.length !== wanted)
    throw refused(name, `${datatype} [${shape.join(", ")}] takes ${wanted} bytes, found ${bytes.length}`);
  if (datatype === "BOOL" && bytes.some((value) => value > 1)) throw refused(name, "BOOL takes bytes of 0 and 1");
  return { name, datatype, shape, data: bytes };
}

/** The bytes of a tensor on the wire. */
export function toRaw(tensor: V2Tensor): Uint8Array {
  if (tensor.datatype !== "BYTES") return tensor.data;
  const parts = tensor.elements.flatMap((element) => {
    const length = Buffer.alloc(SIZES.BYTES);
    length.writeUInt32LE(element.length);
    return [length, element];
  });
  return Buffer.concat(parts);
}

/** A host tensor of float32 or int32 under a name. */
export function ofTensor(name: string, { type, shape, data }: Tensor<"float32" | "int32">): NumericTensor {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, datatype: type === "int32" ? "INT32" : "FP32", shape, data: bytes };
}

/** The host tensor of floats, which become float32 exactly, or of INT32. Throws V2Error for another datatype. */
export function toTensor(given: V2Tensor): Tensor<"float32" | "int32"> {
  if (given.datatype !== "INT32") return float32(given.shape, toFloat32(given));
  return tensor("int32", given.shape, new Int32Array(alignedBuffer(given.data)));
}

/** A tensor of texts, [count]. */
export function bytesTensor(name: string, elements: readonly (string | Uint8Array)[]): BytesTensor {
  const encoded = elements.map((each) => (typeof each === "string" ? Buffer.from(each) : each));
  const isBinary = elements.some((each) => typeof each !== "string");
  return { name, datatype: "BYTES", shape: [elements.length], elements: encoded, isBinary };
}

/** The values of a tensor of floats as float32, exactly. Throws V2Error for another datatype. */
export function toFloat32(tensor: V2Tensor): Float32Array<ArrayBuffer> {
  const { datatype, name } = tensor;
  if (datatype === "FP32") return new Float32Array(alignedBuffer(tensor.data));
  if (datatype === "FP16") return fromFloat16(new Uint16Array(alignedBuffer(tensor.data)));
  if (datatype === "BF16") return fromBfloat16(new Uint16Array(alignedBuffer(tensor.data)));
  throw refused(name, `wanted FP32, FP16 or BF16, found ${datatype}`);
}

/** The values of a tensor of INT64. Throws V2Error for another datatype. */
export function toInt64({ name, datatype, ...tensor }: V2Tensor): BigInt64Array {
  if (datatype !== "INT64" || !("data" in tensor)) throw refused(name, `wanted INT64, found ${datatype}`);
  return new BigInt64Array(alignedBuffer(tensor.data));
}

/** The values of a tensor of whole numbers or of FP32. */
export function numbersOf({ name, datatype, data }: NumericTensor): readonly (number | bigint | boolean)[] {
  const buffer = alignedBuffer(data);
  switch (datatype) {
    case "BOOL":
      return [...data].map((value) => value === 1);
    case "UINT8":
      return [...data];
    case "INT32":
      return [...new Int32Array(buffer)];
    case "INT64":
      return [...new BigInt64Array(buffer)];
    case "FP32":
      return [...new Float32Array(buffer)];
    case "FP16":
    case "BF16":
      return [...toFloat32({ name, datatype, shape: [], data })];
  }
}

/** The bytes of numbers on the wire. Throws V2Error for a number that the datatype does not hold. */
export function rawOfNumbers({ name, datatype }: TensorHead, values: readonly unknown[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * SIZES[datatype]);
  const wrong = (value: unknown) => refused(name, `${writtenShort(value)} is no value of ${datatype}`);
  const lost = () =>
    refused(name, "a number beyond 2^53 loses digits in JSON: send it as a text, or the tensor's bytes");
  const whole = (value: unknown, least: number, most: number) => {
    if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    throw wrong(value);
  };
  values.forEach((value, index) => {
    switch (datatype) {
      case "BOOL":
        if (typeof value !== "boolean" && value !== 0 && value !== 1) throw wrong(value);
        bytes[index] = value ? 1 : 0;
        break;
      case "UINT8":
        bytes[index] = whole(value, 0, 255);
        break;
      case "INT32":
        bytes.writeInt32LE(whole(value, -(2 ** 31), 2 ** 31 - 1), index * 4);
        break;
      case "INT64":
        bytes.writeBigInt64LE(int64(value, { wrong, lost }), index * 8);
        break;
      case "FP32":
        if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) throw wrong(value);
        bytes.writeFloatLE(value, index * 4);
        break;
      default:
        throw refused(name, `${datatype} has no form in JSON: send its bytes`);
    }
  });
  return bytes;
}

interface Int64Refusals {
  readonly wrong: (value: unknown) => V2Error;
  readonly lost: () => V2Error;
}

/** Numbers beyond 2^53 lose digits in JSON: they are refused, and sent as bytes. Those of gRPC come as texts. */
function int64(value: unknown, { wrong, lost }: Int64Refusals): bigint {
  const isText = typeof value === "string" && /^-?\d{1,19}$/.test(value);
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) throw lost();
  if (!isText && !Number.isSafeInteger(value)) throw wrong(value);
  const number = BigInt(value as string | number);
  if (number !== BigInt.asIntN(64, number)) throw wrong(value);
  return number;
}

/** A refusal of a tensor by its name. */
export function refused(name: string, reason: string): V2Error {
  return new V2Error(400, `Cannot use "${shown(name)}": ${reason}`);
}

/** A value of a client for a message. */
export function writtenShort(value: unknown): string {
  return value === undefined ? "missing" : shown(JSON.stringify(value) ?? String(value));
}

// Each with its length before it; together all of the bytes.
function elementsOf({ name, shape }: Pick<TensorHead, "name" | "shape">, bytes: Uint8Array): readonly Uint8Array[] {
  const count = elementCount(shape);
  if (count * SIZES.BYTES > bytes.length)
    throw refused(
      name,
      `BYTES [${shape.join(", ")}] takes at least ${count * SIZES.BYTES} bytes, found ${bytes.length}`,
    );
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const elements: Uint8Array[] = [];
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const start = at + SIZES.BYTES;
    const end = start <= view.length ? start + view.readUInt32LE(at) : Number.POSITIVE_INFINITY;
    if (end > view.length) throw refused(name, `element ${index} ends after the ${bytes.length} bytes of the tensor`);
    elements.push(bytes.subarray(start, end));
    at = end;
  }
  if (at !== bytes.length) throw refused(name, `its ${count} elements take ${at} bytes, found ${bytes.length}`);
  return elements;
}

// Typed arrays start at multiples of their element's size; a body's tensors start anywhere.
function alignedBuffer(data: Uint8Array): ArrayBuffer {
  return new Uint8Array(data).buffer;
}
