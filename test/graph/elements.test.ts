// The bytes of constants, beside bit patterns that a reader can check against IEEE 754.
import { describe, expect, test } from "vitest";
import { elementBytes } from "../../src/graph/elements.js";
import type { DType } from "../../src/graph/types.js";

const half = (dtype: DType, number: number) =>
  new DataView(elementBytes(dtype, [number]).slice().buffer).getUint16(0, true);

describe("bfloat16", () => {
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3f80],
    [-2, 0xc000],
    [0.1, 0x3dcd],
    [Math.PI, 0x4049],
    // Exactly between two: to the even one, down and up.
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    // Just above the middle.
    [1 + 2 ** -8 + 2 ** -20, 0x3f81],
    // A carry into the exponent.
    [2 - 2 ** -9, 0x4000],
    [65536, 0x4780],
    [1e-40, 0x0001],
    [3.4e38, 0x7f80],
    [Infinity, 0x7f80],
    [-Infinity, 0xff80],
    [NaN, 0x7fc0],
  ])("of %d is %i", (number, bits) => {
    expect(half("bf16", number)).toBe(bits);
  });
});

describe("float16", () => {
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [0.1, 0x2e66],
    [1 / 3, 0x3555],
    [Math.PI, 0x4248],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [2 - 2 ** -12, 0x4000],
    // Subnormals: the smallest, half of it (to even: 0), one and a half (to even: 2), the largest, the smallest normal.
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [1.5 * 2 ** -24, 0x0002],
    [2 ** -14 - 2 ** -24, 0x03ff],
    [2 ** -14, 0x0400],
    // The largest, and where rounding reaches infinity.
    [65504, 0x7bff],
    [65519, 0x7bff],
    [65520, 0x7c00],
    [1e9, 0x7c00],
    [-Infinity, 0xfc00],
    [NaN, 0x7e00],
  ])("of %d is %i", (number, bits) => {
    expect(half("f16", number)).toBe(bits);
  });
});

test("other types are little-endian", () => {
  expect([...elementBytes("f32", [1, -2])]).toEqual([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
  expect([...elementBytes("i64", [-2, 258])]).toEqual([254, 255, 255, 255, 255, 255, 255, 255, 2, 1, 0, 0, 0, 0, 0, 0]);
  expect([...elementBytes("i32", [-2])]).toEqual([254, 255, 255, 255]);
  expect([...elementBytes("u8", [0, 255])]).toEqual([0, 255]);
  expect([...elementBytes("f32", [])]).toEqual([]);
});

test.each<DType>(["f8_e4m3", "bool"])("no constant is of type %s", (dtype) => {
  expect(() => elementBytes(dtype, [1])).toThrow(`internal: no constants of type ${dtype}`);
});
