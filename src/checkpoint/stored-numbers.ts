// Bytes of stored types as numbers.
import { QeditError } from "../std/errors.js";
import { fromBfloat16, fromFloat8E4M3, fromFloat8E5M2, fromFloat16 } from "../std/half-floats.js";
import type { StoredType } from "./checkpoint.js";

type Bytes = Uint8Array<ArrayBuffer>;

/** Each converter gets bytes that own their ArrayBuffer, so that any alignment is right. The other types are of formats that qedit does not read. */
const CONVERT: Readonly<Partial<Record<StoredType, (bytes: Bytes) => Float32Array<ArrayBuffer>>>> = {
  F64: ({ buffer }) => Float32Array.from(new Float64Array(buffer)),
  F32: ({ buffer }) => new Float32Array(buffer),
  F16: ({ buffer }) => fromFloat16(new Uint16Array(buffer)),
  BF16: ({ buffer }) => fromBfloat16(new Uint16Array(buffer)),
  F8_E4M3: fromFloat8E4M3,
  F8_E5M2: fromFloat8E5M2,
  I64: ({ buffer }) => Float32Array.from(new BigInt64Array(buffer), Number),
  I32: ({ buffer }) => Float32Array.from(new Int32Array(buffer)),
  I16: ({ buffer }) => Float32Array.from(new Int16Array(buffer)),
  I8: ({ buffer }) => Float32Array.from(new Int8Array(buffer)),
  U64: ({ buffer }) => Float32Array.from(new BigUint64Array(buffer), Number),
  U32: ({ buffer }) => Float32Array.from(new Uint32Array(buffer)),
  U16: ({ buffer }) => Float32Array.from(new Uint16Array(buffer)),
  U8: (bytes) => Float32Array.from(bytes),
  BOOL: (bytes) => Float32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1)),
};

/** float32 of the little-endian bytes of a stored type, rounded to nearest where the type is wider. Bytes in the middle of a buffer are copied. Throws QEDIT_E_CHECKPOINT for a type without numbers of its own. */
export function toFloat32(dtype: StoredType, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const owned =
    bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength
      ? (bytes as Bytes)
      : Uint8Array.from(bytes);
  const convert = CONVERT[dtype];
  if (convert === undefined)
    throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot read numbers stored as ${dtype}`, {
      hint: "Take the file in another type, such as bf16",
    });
  return convert(owned);
}
