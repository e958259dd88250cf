// Stored bytes to float32 and back, for every type, and rows of a matrix without the rest of it.

import { truncate } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { readBytes, readRows, readScalars, readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { toFloat32 } from "../../src/checkpoint/stored-numbers.js";
import * as half from "../../src/std/half-floats.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { temporaryFolder } from "./folder.js";

const path = temporaryFolder();
const stored = async (file: string, name: string) => {
  const found = (await readSafetensors(file)).tensors.get(name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
};

describe("toFloat32", () => {
  const bytes = (array: ArrayBufferView<ArrayBuffer>) => new Uint8Array(array.buffer);

  test.each([
    ["F64", bytes(Float64Array.of(1.5, -0.1)), [1.5, Math.fround(-0.1)]],
    ["F32", bytes(Float32Array.of(1.5, -3)), [1.5, -3]],
    ["F16", bytes(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00)), [1, -2, 65504, 2 ** -24, Infinity]],
    ["BF16", bytes(Uint16Array.of(0x3f80, 0xc040, 0xff80)), [1, -3, -Infinity]],
    ["F8_E4M3", Uint8Array.of(0x38, 0xb8, 0x7e, 0x01, 0x08, 0x07), [1, -1, 448, 2 ** -9, 2 ** -6, 7 * 2 ** -9]],
    ["F8_E5M2", Uint8Array.of(0x3c, 0x7b, 0x01, 0xfc), [1, 57344, 2 ** -16, -Infinity]],
    ["I64", bytes(BigInt64Array.of(-5n, 8n)), [-5, 8]],
    ["U64", bytes(BigUint64Array.of(5n)), [5]],
    ["I32", bytes(Int32Array.of(-7)), [-7]],
    ["U32", bytes(Uint32Array.of(2 ** 32 - 256)), [2 ** 32 - 256]],
    ["I16", bytes(Int16Array.of(-300)), [-300]],
    ["U16", bytes(Uint16Array.of(65535)), [65535]],
    ["I8", Uint8Array.of(0xff), [-1]],
    ["U8", Uint8Array.of(0xff), [255]],
    ["BOOL", Uint8Array.of(0, 1), [0, 1]],
  ] as const)("%s", (dtype, data, values) => {
    expect([...toFloat32(dtype, data)]).toEqual(values);
  });

  test("e4m3fn has no infinity and two NaN patterns", () => {
    expect([...toFloat32("F8_E4M3", Uint8Array.of(0x7f, 0xff))]).toEqual([NaN, NaN]);
    expect(
      [
        ...toFloat32(
          "F8_E4M3",
          Uint8Array.from({ length: 256 }, (_, i) => i),
        ),
      ].filter((x) => !Number.isFinite(x)),
    ).toHaveLength(2);
  });

  test("bytes at an odd place in a buffer are converted as they stand there", () => {
    const data = Uint8Array.of(9, 0, 0, 0x80, 0x3f, 9).subarray(1, 5);
    expect([...toFloat32("F32", data)]).toEqual([1]);
  });
});

describe("narrowing", () => {
  test.each([
    ["bfloat16", half.toBfloat16, half.fromBfloat16, 16],
    ["float16", half.toFloat16, half.fromFloat16, 16],
  ] as const)("every finite %s comes back as itself", (_, narrow, widen, bits) => {
    const patterns = Uint16Array.from({ length: 2 ** bits }, (_, i) => i);
    const values = widen(patterns);
    const finite = patterns.filter((_, i) => Number.isFinite(values[i]));
    expect(narrow(widen(finite))).toEqual(finite);
  });

  test.each([
    ["e4m3fn", half.toFloat8E4M3, half.fromFloat8E4M3],
    ["e5m2", half.toFloat8E5M2, half.fromFloat8E5M2],
  ] as const)("every finite %s comes back as itself", (_, narrow, widen) => {
    const patterns = Uint8Array.from({ length: 256 }, (_, i) => i);
    const values = widen(patterns);
    const finite = patterns.filter((_, i) => Number.isFinite(values[i]));
    expect(narrow(widen(finite))).toEqual(finite);
  });

  test("halves round to the even neighbour", () => {
    // Between 1 and 1 + 2^-7, and between 1 + 2^-7 and 1 + 2^-6.
    expect([...half.toBfloat16(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8))]).toEqual([0x3f80, 0x3f82]);
    expect([...half.toFloat16(Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 3 * 2 ** -25))]).toEqual([
      0x3c00, 0x3c02, 0, 2,
    ]);
    expect([...half.toFloat8E4M3(Float32Array.of(1.0625, 1.1875, 2 ** -10, 3 * 2 ** -10, 15.5 * 2 ** -10))]).toEqual([
      0x38, 0x3a, 0, 2, 8,
    ]);
    expect([...half.toFloat8E5M2(Float32Array.of(1.125, 1.375))]).toEqual([0x3c, 0x3e]);
  });

  test("numbers beyond the range become infinite, or the largest one where there is no infinity", () => {
    const huge = Float32Array.of(1e38, -Infinity);
    expect([...half.toFloat16(huge)]).toEqual([0x7c00, 0xfc00]);
    expect([...half.toFloat8E5M2(huge)]).toEqual([0x7c, 0xfc]);
    expect([...half.toFloat8E4M3(Float32Array.of(464, 465, 1e38, -Infinity))]).toEqual([0x7e, 0x7e, 0x7e, 0xfe]);
    expect([...half.toBfloat16(Float32Array.of(3.4e38, -Infinity))]).toEqual([0x7f80, 0xff80]);
  });

  test("NaN stays NaN, and zero keeps its sign", () => {
    const values = Float32Array.of(NaN, -0);
    expect([...half.toBfloat16(values)]).toEqual([0x7fc0, 0x8000]);
    expect([...half.toFloat16(values)]).toEqual([0x7e00, 0x8000]);
    expect([...half.toFloat8E4M3(values)]).toEqual([0x7f, 0x80]);
    expect([...half.toFloat8E5M2(values)]).toEqual([0x7f, 0x80]);
  });
});

describe("reading from a file", () => {
  const matrix = float32(
    [5, 3],
    Float32Array.from({ length: 15 }, (_, i) => i),
  );

  test.each(["BF16", "F16", undefined] as const)("readTensor gives back what was stored as %s", async (storedAs) => {
    const file = path(`stored-${storedAs}.safetensors`);
    await writeSafetensors(file, {
      x: storedAs ? { ...matrix, storedAs } : matrix,
      before: tensor("uint8", [3], Uint8Array.of(1, 2, 3)),
    });
    expect([...(await readTensor(await stored(file, "x")))]).toEqual([...matrix.data].map(Number));
  });

  test("readBytes gives the bytes as stored", async () => {
    const file = path("bytes.safetensors");
    await writeSafetensors(file, { x: matrix, b: tensor("uint8", [3], Uint8Array.of(1, 2, 3)) });
    expect([...(await readBytes(await stored(file, "b")))]).toEqual([1, 2, 3]);
  });

  test("readRows gives rows in the order asked for, twice when asked twice", async () => {
    const file = path("rows.safetensors");
    await writeSafetensors(file, { x: { ...matrix, storedAs: "BF16" }, other: float32([2]) });
    expect([...(await readRows(await stored(file, "x"), [4, 0, 4, 1]))]).toEqual([
      12, 13, 14, 0, 1, 2, 12, 13, 14, 3, 4, 5,
    ]);
    expect([...(await readRows(await stored(file, "x"), []))]).toEqual([]);
  });

  test.each([5, -1, 0.5])("readRows refuses row %s of 5", async (row) => {
    const file = path("rows5.safetensors");
    await writeSafetensors(file, { x: matrix });
    await expect(readRows(await stored(file, "x"), [0, row])).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringContaining("wanted 0 to 4"),
    });
  });

  test("readRows refuses what is no matrix", async () => {
    const file = path("cube.safetensors");
    await writeSafetensors(file, { x: float32([2, 2, 2]) });
    await expect(readRows(await stored(file, "x"), [0])).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringContaining("[2, 2, 2]"),
    });
  });

  test("readScalars gives values of all types in order", async () => {
    const file = path("scalars.safetensors");
    await writeSafetensors(file, {
      a: float32([], Float32Array.of(2.5)),
      b: tensor("int64", [], BigInt64Array.of(8n)),
    });
    expect(await readScalars([await stored(file, "b"), await stored(file, "a")])).toEqual([8, 2.5]);
  });

  test("a file that shrank since its header was read is an input failure", async () => {
    const file = path("shrunk.safetensors");
    await writeSafetensors(file, { x: matrix });
    const x = await stored(file, "x");
    await truncate(file, x.offset + 4);
    await expect(readTensor(x)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringContaining("the file ends at byte"),
    });
  });
});
