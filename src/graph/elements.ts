// Numbers to the bytes of an element type, for constants inside a graph. Little-endian, as ONNX raw_data is.
import { toBfloat16, toFloat16 } from "../std/half-floats.js";
import type { DType } from "./types.js";

/** The raw bytes of numbers as elements of `dtype`; throws for types no constant needs. */
export function elementBytes(dtype: DType, numbers: readonly number[]): Uint8Array {
  const view = typedArray(dtype, numbers);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function typedArray(dtype: DType, numbers: readonly number[]): ArrayBufferView {
  switch (dtype) {
    case "f32":
      return Float32Array.from(numbers);
    case "i32":
      return Int32Array.from(numbers);
    case "f64":
      return Float64Array.from(numbers);
    case "i64":
      return BigInt64Array.from(numbers, (number) => BigInt(number));
    case "u8":
      return Uint8Array.from(numbers);
    case "bf16":
      return toBfloat16(Float32Array.from(numbers));
    case "f16":
      return toFloat16(Float32Array.from(numbers));
    default:
      throw new Error(`internal: no constants of type ${dtype}`);
  }
}
