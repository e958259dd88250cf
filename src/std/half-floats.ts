// 16- and 8-bit floats to float32 and back: widening is exact, narrowing rounds to nearest, ties to even.
// Formats: https://arxiv.org/abs/2209.05433 (fp8), https://onnx.ai/onnx/technical/float8.html (saturation)

/** Bits below a float32's upper half. */
const BF16_SHIFT = 16;
/** torch and ONNX write every NaN as this bfloat16. */
const BF16_NAN = 0x7fc0;
/** Layout of a float32; magnitudes above NAN_BITS are NaN. */
const F32_SIGN_BIT = 31;
const F32_MANTISSA_BITS = 23;
const F32_MANTISSA = 0x7f_ffff;
const F32_BIAS = 127;
const MAGNITUDE = 0x7fff_ffff;
const NAN_BITS = 0x7f80_0000;

/** How a small float lays out its bits; `largest` is the bit pattern of the largest finite number, `nan` of not-a-number. */
interface SmallFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly largest: number;
  readonly nan: number;
  /** Bit pattern of infinity; formats without one saturate. */
  readonly infinity: number | undefined;
}

const F16: SmallFloat = { exponentBits: 5, mantissaBits: 10, largest: 0x7bff, nan: 0x7e00, infinity: 0x7c00 };
const E4M3: SmallFloat = { exponentBits: 4, mantissaBits: 3, largest: 0x7e, nan: 0x7f, infinity: undefined };
const E5M2: SmallFloat = { exponentBits: 5, mantissaBits: 2, largest: 0x7b, nan: 0x7f, infinity: 0x7c };

const f16Values = onceMade(F16);
const e4m3Values = onceMade(E4M3);
const e5m2Values = onceMade(E5M2);

/** float32 of bfloat16 bits. */
export function fromBfloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = (bits[i] ?? 0) << BF16_SHIFT;
  return new Float32Array(out.buffer);
}

/** float32 of float16 bits. */
export function fromFloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return lookUp(f16Values(), bits);
}

/** float32 of e4m3fn bytes: bias 7, subnormals m·2^-9, 0x7f and 0xff are NaN, largest 448. */
export function fromFloat8E4M3(bits: Uint8Array): Float32Array<ArrayBuffer> {
  return lookUp(e4m3Values(), bits);
}

/** float32 of e5m2 bytes: bias 15, with infinities and NaN as float16 has them. */
export function fromFloat8E5M2(bits: Uint8Array): Float32Array<ArrayBuffer> {
  return lookUp(e5m2Values(), bits);
}

/** bfloat16 bits of float32 values, as torch's `.to(torch.bfloat16)` gives them. */
export function toBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? 0;
    const odd = (word >>> BF16_SHIFT) & 1;
    out[i] = (word & MAGNITUDE) > NAN_BITS ? BF16_NAN : (word + 0x7fff + odd) >>> BF16_SHIFT;
  }
  return out;
}

/** float16 bits of float32 values; too large ones become infinite. */
export function toFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  return encode(values, F16, new Uint16Array(values.length));
}

/**
 * e4m3fn bytes of float32 values; too large ones, infinities included, become ±448, as in ONNX's Cast and in ComfyUI.
 * torch's `.to(torch.float8_e4m3fn)` makes those above 464 NaN instead; all others are the same.
 */
export function toFloat8E4M3(values: Float32Array): Uint8Array<ArrayBuffer> {
  return encode(values, E4M3, new Uint8Array(values.length));
}

/** e5m2 bytes of float32 values; too large ones become infinite, as torch's `.to(torch.float8_e5m2)` has it. */
export function toFloat8E5M2(values: Float32Array): Uint8Array<ArrayBuffer> {
  return encode(values, E5M2, new Uint8Array(values.length));
}

function lookUp(table: Float32Array, bits: Uint8Array | Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i] ?? 0] ?? 0;
  return out;
}

// Made when it is first asked for: that of float16 takes 10 ms, and most calls of the command line widen no float.
function onceMade(format: SmallFloat): () => Float32Array {
  let table: Float32Array | undefined;
  return () => (table ??= valueTable(format));
}

/** The value of every bit pattern of a format. */
function valueTable(format: SmallFloat): Float32Array {
  const magnitudes = 1 << (format.exponentBits + format.mantissaBits);
  const table = new Float32Array(2 * magnitudes);
  for (let bits = 0; bits < magnitudes; bits++) {
    const value = decode(bits, format);
    table[bits] = value;
    table[bits + magnitudes] = -value;
  }
  return table;
}

/** Value of a non-negative bit pattern. */
function decode(bits: number, { exponentBits, mantissaBits, largest, infinity }: SmallFloat): number {
  if (bits > largest) return bits === infinity ? Infinity : NaN;
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = bits >> mantissaBits;
  const mantissa = bits & ((1 << mantissaBits) - 1);
  const unit = 2 ** (Math.max(exponent, 1) - bias - mantissaBits);
  return (exponent === 0 ? mantissa : mantissa + (1 << mantissaBits)) * unit;
}

/** Writes the bit pattern of the value nearest to each of values, ties to the even mantissa, and gives out back. */
function encode<T extends Uint8Array | Uint16Array>(
  values: Float32Array,
  { exponentBits, mantissaBits, largest, nan, infinity }: SmallFloat,
  out: T,
): T {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const signShift = F32_SIGN_BIT - exponentBits - mantissaBits;
  const smallestNormal = F32_BIAS + 2 - 2 ** (exponentBits - 1);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? 0;
    const magnitude = word & MAGNITUDE;
    const exponent = magnitude >>> F32_MANTISSA_BITS;
    const above = exponent - smallestNormal;
    // Below the smallest normal number all values have its spacing: the mantissa moves right, and at 25 places nothing of it is left.
    const shift = F32_MANTISSA_BITS - mantissaBits + Math.min(Math.max(-above, 0), mantissaBits + 2);
    const significand = (magnitude & F32_MANTISSA) | (F32_MANTISSA + 1);
    const steps = (significand + (1 << (shift - 1)) - 1 + ((significand >>> shift) & 1)) >>> shift;
    // Adding instead of or-ing lets a mantissa that rounds up carry into the exponent.
    const bits = (Math.max(above, 0) << mantissaBits) + steps;
    const sign = (word & ~MAGNITUDE) >>> signShift;
    out[i] = magnitude > NAN_BITS ? nan : sign | (bits > largest ? (infinity ?? largest) : bits);
  }
  return out;
}
