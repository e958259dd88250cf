// Arithmetic of dimensions: numbers, names, multiples, products and sums.
import { describe, expect, test } from "vitest";
import { addDims, type Dim, divideDim, ELEMENT, multiplyDims, sameShape, shapeText } from "../../src/graph/types.js";

describe("multiplyDims", () => {
  test.each<[readonly Dim[], Dim]>([
    [[], 1],
    [[2, 3, 4], 24],
    [[8, "h"], "8*h"],
    [["h", 8], "8*h"],
    [["8*h", 2], "16*h"],
    [["8*h", "8*w"], "64*h*w"],
    [["w", "h"], "h*w"],
    [["h*w", "b"], "b*h*w"],
    [["h", "h"], "h*h"],
    [[1, "h"], "h"],
    [[0, "h"], "0*h"],
    [["txt+img", 1], "txt+img"],
    [["txt+img", 3], "3*txt+3*img"],
    [["txt+img", "h", 2], "2*h*txt+2*h*img"],
    [["h+1", "h+1"], "h*h+2*h+1"],
  ])("%j is %j", (dims, wanted) => {
    expect(multiplyDims(...dims)).toBe(wanted);
  });

  test("does not depend on the order", () => {
    expect(multiplyDims("4*w", "h", 2)).toBe(multiplyDims(2, "h", "4*w"));
  });
});

describe("addDims", () => {
  test.each<[Dim, Dim, Dim]>([
    [2, 3, 5],
    [0, "h", "h"],
    ["h", 0, "h"],
    ["h", "h", "2*h"],
    ["2*h", "3*h", "5*h"],
    ["h*w", "2*h*w", "3*h*w"],
    ["txt", "img", "txt+img"],
    ["h", 1, "h+1"],
    ["txt+img", "txt+img", "2*txt+2*img"],
    ["txt+img", "img", "txt+2*img"],
  ])("%j and %j are %j", (a, b, wanted) => {
    expect(addDims(a, b)).toBe(wanted);
  });
});

describe("divideDim", () => {
  test.each<[Dim, number, Dim | undefined]>([
    [12, 4, 3],
    [12, 5, undefined],
    ["8*h", 8, "h"],
    ["8*h", 2, "4*h"],
    ["h", 1, "h"],
    ["h", 2, undefined],
    ["6*h*w", 4, undefined],
    ["txt+img", 2, undefined],
    ["4*txt+2*img", 2, "2*txt+img"],
  ])("%j by %i is %j", (dim, divisor, wanted) => {
    expect(divideDim(dim, divisor)).toBe(wanted);
  });
});

test("shapes are the same when every dimension is, names included", () => {
  expect(sameShape([1, "n", 4], [1, "n", 4])).toBe(true);
  expect(sameShape([1, "n", 4], [1, "m", 4])).toBe(false);
  expect(sameShape([1, 4], [1, 4, 1])).toBe(false);
});

test("shapeText writes a shape for messages", () => {
  expect(shapeText([1, "n", 12])).toBe("[1, n, 12]");
  expect(shapeText([])).toBe("[]");
});

test("element types have the numbers and widths of onnx.proto3", () => {
  expect(Object.fromEntries(Object.entries(ELEMENT).map(([name, { onnx, bytes }]) => [name, [onnx, bytes]]))).toEqual({
    f32: [1, 4],
    u8: [2, 1],
    i8: [3, 1],
    i32: [6, 4],
    i64: [7, 8],
    bool: [9, 1],
    f16: [10, 2],
    f64: [11, 8],
    bf16: [16, 2],
    f8_e4m3: [17, 1],
    f8_e5m2: [19, 1],
  });
});
