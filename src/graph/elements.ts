// Numbers to the bytes of an element type, for constants inside a graph. Little-endian, as ONNX raw_data is.
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
    case "i64":
      return BigInt64Array.from(numbers, (number) => BigInt(number));
    case "u8":
      return Uint8Array.from(numbers);
    case "bf16":
      return Uint16Array.from(numbers, bfloat16);
    case "f16":
      return Uint16Array.from(numbers, float16);
    default:
      throw new Error(`internal: no constants of type ${dtype}`);
  }
}

// Round to nearest, ties to even, on the upper half of the float32.
function bfloat16(number: number): number {
  const bits = new Uint32Array(Float32Array.of(number).buffer)[0]!;
  if (Number.isNaN(number)) return 0x7fc0;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function float16(number: number): number {
  const sign = number < 0 || Object.is(number, -0) ? 0x8000 : 0;
  const size = Math.abs(number);
  if (Number.isNaN(number)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size || Number.MIN_VALUE)), -14);
  const quantum = 2 ** (exponent - 10);
  const steps = roundHalfEven(size / quantum);
  // A subnormal has no hidden bit; a carry out of the mantissa raises the exponent by itself.
  return sign | (steps < 1024 ? steps : ((exponent + 14) << 10) + steps);
}

function roundHalfEven(number: number): number {
  const floor = Math.floor(number);
  const rest = number - floor;
  if (rest !== 0.5) return Math.round(number);
  return floor % 2 === 0 ? floor : floor + 1;
}
