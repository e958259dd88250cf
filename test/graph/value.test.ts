// The operators of values beside plain JavaScript, on small sides that are all different, and what they refuse.
import { describe, expect, test } from "vitest";
import { Graph } from "../../src/graph/graph.js";
import type { DType, Shape } from "../../src/graph/types.js";
import { concat, type Value } from "../../src/graph/value.js";
import { type Tensor, tensor } from "../../src/std/tensor.js";
import { at, difference, evaluate, evaluateOne, formula, numbers, sum } from "./run.js";

const x = numbers([2, 3, 5]);

describe("broadcasting", () => {
  const operations: [string, (a: Value, b: Value | number) => Value, (a: number, b: number) => number][] = [
    ["add", (a, b) => a.add(b), (a, b) => a + b],
    ["sub", (a, b) => a.sub(b), (a, b) => a - b],
    ["mul", (a, b) => a.mul(b), (a, b) => a * b],
    ["div", (a, b) => a.div(b), (a, b) => a / b],
  ];

  test.each(operations)("%s repeats a row of the right side", async (_, build, plain) => {
    const y = numbers([3, 1], 2);
    const found = await evaluateOne({ x, y }, ({ x, y }) => build(x!, y!));
    expect(
      difference(
        found,
        formula([2, 3, 5], ([i, j, k]) => plain(at(x, [i!, j!, k!]), at(y, [j!, 0]))),
      ),
    ).toBeUndefined();
  });

  test.each(operations)("%s repeats a column of the left side", async (_, build, plain) => {
    const y = numbers([3, 1], 2);
    const found = await evaluateOne({ x, y }, ({ x, y }) => build(y!, x!));
    expect(
      difference(
        found,
        formula([2, 3, 5], ([i, j, k]) => plain(at(y, [j!, 0]), at(x, [i!, j!, k!]))),
      ),
    ).toBeUndefined();
  });

  test.each(operations)("%s takes a number", async (_, build, plain) => {
    const found = await evaluateOne({ x }, ({ x }) => build(x!, 0.75));
    expect(
      difference(
        found,
        formula([2, 3, 5], (index) => plain(at(x, index), 0.75)),
      ),
    ).toBeUndefined();
  });

  test("max takes the larger of an element and a number", async () => {
    const found = await evaluateOne({ x }, ({ x }) => x!.max(0.1));
    expect(
      difference(
        found,
        formula([2, 3, 5], (index) => Math.max(at(x, index), 0.1)),
      ),
    ).toBeUndefined();
  });
});

describe("elementwise", () => {
  test.each<[string, (x: Value) => Value, (x: number) => number]>([
    ["cos", (x) => x.cos(), Math.cos],
    ["sin", (x) => x.sin(), Math.sin],
    ["sqrt", (x) => x.mul(x).add(1).sqrt(), (x) => Math.sqrt(x * x + 1)],
    ["floor", (x) => x.mul(3).floor(), (x) => Math.floor(Math.fround(x * 3))],
    ["clip", (x) => x.clip(-0.5, 0.75), (x) => Math.min(Math.max(x, -0.5), 0.75)],
  ])("%s", async (_, build, plain) => {
    const found = await evaluateOne({ x }, ({ x }) => build(x!));
    expect(
      difference(
        found,
        formula([2, 3, 5], (index) => plain(at(x, index))),
      ),
    ).toBeUndefined();
  });

  test("sum adds all elements, and one that is not a number is seen in it", async () => {
    const found = await evaluateOne({ x }, ({ x }) => x!.sum(), { x: [2, "n", 5] });
    expect(
      difference(
        found,
        formula([], () => [...x.data].reduce((a, b) => a + b, 0)),
        1e-5,
      ),
    ).toBeUndefined();
    const broken = { ...x, data: x.data.map((each, index) => (index === 7 ? Infinity : each)) };
    expect((await evaluateOne({ broken }, ({ broken }) => broken!.mul(0).sum())).data[0]).toBeNaN();
  });

  test("cast cuts a float to an integer, and adds no node when the type is right already", async () => {
    const found = await evaluateOne({ x }, ({ x }) => x!.cast("i32"));
    expect([...found.data]).toEqual([...x.data].map((each) => Math.trunc(each) + 0));
    const graph = new Graph("test");
    const input = graph.input("x", "f32", [1]);
    expect(input.cast("f32")).toBe(input);
    expect(graph.nodes).toEqual([]);
  });
});

describe("matmul", () => {
  test("multiplies each matrix of a batch by one matrix", async () => {
    const w = numbers([5, 4], 2);
    const found = await evaluateOne({ x, w }, ({ x, w }) => x!.matmul(w!));
    const wanted = formula([2, 3, 4], ([b, i, j]) => sum(5, (k) => at(x, [b!, i!, k]) * at(w, [k, j!])));
    expect(difference(found, wanted)).toBeUndefined();
  });

  test("multiplies one matrix by each of a batch", async () => {
    const w = numbers([4, 3], 2);
    const found = await evaluateOne({ x, w }, ({ x, w }) => w!.matmul(x!));
    expect(
      difference(
        found,
        formula([2, 4, 5], ([b, i, j]) => sum(3, (k) => at(w, [i!, k]) * at(x, [b!, k, j!]))),
      ),
    ).toBeUndefined();
  });

  test("multiplies batch by batch", async () => {
    const w = numbers([2, 5, 4], 2);
    const found = await evaluateOne({ x, w }, ({ x, w }) => x!.matmul(w!));
    expect(
      difference(
        found,
        formula([2, 3, 4], ([b, i, j]) => sum(5, (k) => at(x, [b!, i!, k]) * at(w, [b!, k, j!]))),
      ),
    ).toBeUndefined();
  });
});

describe("shapes", () => {
  test("transpose moves axes", async () => {
    const found = await evaluateOne({ x }, ({ x }) => x!.transpose([2, 0, 1]));
    expect(
      difference(
        found,
        formula([5, 2, 3], ([k, i, j]) => at(x, [i!, j!, k!])),
      ),
    ).toBeUndefined();
  });

  test("reshape keeps the order of the elements", async () => {
    const found = await evaluateOne({ x }, ({ x }) => x!.reshape([3, 10]));
    expect(found).toEqual({ ...x, shape: [3, 10] });
  });

  test.each<[string, Shape, Shape, number[]]>([
    ["keeps a name in its place", ["b", 3, 5], ["b", 15], [2, 15]],
    ["moves one name", ["b", 3, 5], [1, "b", 15], [1, 2, 15]],
    ["joins a name and a number", ["b", 3, 5], ["3*b", 5], [6, 5]],
    ["joins two names", ["b", "t", 5], ["b*t", 5], [6, 5]],
  ])("reshape %s", async (_, from, to, wanted) => {
    const found = await evaluateOne({ x }, ({ x }) => x!.reshape(to), { x: from });
    expect(found).toEqual({ ...x, shape: wanted });
  });

  test("reshapeLike takes the shape of another value at run time", async () => {
    const like = numbers([3, 10]);
    const shapes = { x: ["h", "w", 5], like: ["w", "5*h"] };
    expect(await evaluateOne({ x, like }, ({ x, like }) => x!.reshapeLike(like!), shapes)).toEqual({
      ...x,
      shape: [3, 10],
    });
  });

  test("shapeValue gives the dimensions at run time, all or some", async () => {
    const found = await evaluate({ x }, ({ x }) => [x!.shapeValue(), x!.shapeValue(1, 2)], { x: ["a", "b", 5] });
    expect(found).toEqual([
      tensor("int64", [3], BigInt64Array.of(2n, 3n, 5n)),
      tensor("int64", [1], BigInt64Array.of(3n)),
    ]);
  });
});

describe("parts", () => {
  test.each([1, -2])("slice takes a part of axis %i", async (axis) => {
    const found = await evaluateOne({ x }, ({ x }) => x!.slice(axis, 1, 3));
    expect(
      difference(
        found,
        formula([2, 2, 5], ([i, j, k]) => at(x, [i!, j! + 1, k!])),
      ),
    ).toBeUndefined();
  });

  test("firstLike takes as many as another value has", async () => {
    const like = numbers([4, 2]);
    const found = await evaluateOne({ x, like }, ({ x, like }) => x!.firstLike(2, like!, 0), {
      x: [2, 3, "all"],
      like: ["some", 2],
    });
    expect(
      difference(
        found,
        formula([2, 3, 4], (index) => at(x, index)),
      ),
    ).toBeUndefined();
  });

  test("splitLike cuts into parts as long as other values, an empty one among them", async () => {
    const [a, b, c] = [numbers([1, 4]), numbers([1, 0]), numbers([1, 1])];
    const shapes = { x: [2, 3, "n"], a: [1, "a"], b: [1, "b"], c: [1, "c"] };
    const parts = await evaluate({ x, a, b, c }, ({ x, a, b, c }) => x!.splitLike(2, [a!, b!, c!], 1), shapes);
    const part = (from: number, count: number) => formula([2, 3, count], ([i, j, k]) => at(x, [i!, j!, from + k!]));
    expect(parts).toEqual([part(0, 4), part(4, 0), part(4, 1)]);
  });

  test("lengths are read once in a graph, whatever is cut by them", () => {
    const graph = new Graph("test");
    const [y, a, b] = [
      graph.input("y", "f32", ["a+b", 2]),
      graph.input("a", "f32", ["a", 3]),
      graph.input("b", "f32", ["b", 3]),
    ];
    for (const each of [y, y.mul(2)]) each.splitLike(0, [a.mul(2), b], 0);
    y.firstLike(0, a, 0);
    expect(graph.nodes.filter(({ operator }) => operator === "Shape" || operator === "Concat")).toHaveLength(3);
  });

  test("spread gives every element of an axis the number of its block, with a smaller block at the end", async () => {
    const blocks = numbers([2, 3]);
    const found = await evaluate({ blocks }, ({ blocks }) => blocks!.spread(1, 4, 10).spread(0, 2, 3));
    const wanted = formula([3, 10], ([row, column]) => at(blocks, [Math.floor(row! / 2), Math.floor(column! / 4)]));
    expect(difference(found[0]!, wanted)).toBeUndefined();
    const graph = new Graph("test");
    expect(() => graph.input("x", "f32", [2, 3]).spread(1, 4, 13)).toThrow(
      "Cannot spread x f32[2, 3] over 13 elements of axis 1, 4 for each",
    );
  });

  test.each([1, -2])("cut gives parts of unlike lengths along axis %i", async (axis) => {
    const y = numbers([2, 6, 5]);
    const parts = await evaluate({ y }, ({ y }) => y!.cut([1, 3, 2], axis));
    expect(parts).toEqual(
      [
        [0, 1],
        [1, 3],
        [4, 2],
      ].map(([from, length]) => formula([2, length!, 5], ([i, j, k]) => at(y, [i!, from! + j!, k!]))),
    );
  });

  test.each([1, -2])("chunk cuts axis %i into equal parts", async (axis) => {
    const y = numbers([2, 6, 5]);
    const parts = await evaluate({ y }, ({ y }) => y!.chunk(3, axis));
    expect(parts).toEqual([0, 1, 2].map((part) => formula([2, 2, 5], ([i, j, k]) => at(y, [i!, part * 2 + j!, k!]))));
  });

  test("concat joins values along an axis, in order", async () => {
    const y = numbers([2, 1, 5], 2);
    const found = await evaluateOne({ x, y }, ({ x, y }) => concat([y!, x!], 1), { x: [2, "t", 5], y: [2, "u", 5] });
    expect(
      difference(
        found,
        formula([2, 4, 5], ([i, j, k]) => (j === 0 ? at(y, [i!, 0, k!]) : at(x, [i!, j! - 1, k!]))),
      ),
    ).toBeUndefined();
  });
});

describe("the inferred shape", () => {
  const value = (shape: Shape, dtype: DType = "f32") => new Graph("test").input("x", dtype, shape);
  const pair = (a: Shape, b: Shape) => {
    const graph = new Graph("test");
    return [graph.input("a", "f32", a), graph.input("b", "f32", b)] as const;
  };

  test.each<[string, () => Value, string]>([
    [
      "of a sum takes the name over a 1",
      () => {
        const [a, b] = pair(["n", 1, 4], [3, 1]);
        return a.add(b);
      },
      "f32[n, 3, 4]",
    ],
    ["of a product with a number is unchanged", () => value(["n", 2]).mul(2), "f32[n, 2]"],
    ["of a cast is unchanged", () => value(["n", 2]).cast("bf16"), "bf16[n, 2]"],
    [
      "of a matrix product keeps the batch",
      () => {
        const [a, b] = pair(["b", "n", 4], [4, 6]);
        return a.matmul(b);
      },
      "f32[b, n, 6]",
    ],
    [
      "of joined values adds names",
      () => {
        const [a, b] = pair([1, "txt", 4], [1, "img", 4]);
        return concat([a, b], 1);
      },
      "f32[1, txt+img, 4]",
    ],
    [
      "of joined equals doubles the name",
      () => {
        const [a, b] = pair([1, "t", 4], [1, "t", 4]);
        return concat([a, b], -2);
      },
      "f32[1, 2*t, 4]",
    ],
    [
      "of firstLike is known by the other's name",
      () => {
        const [a, b] = pair(["txt+img", 4], ["img", 2]);
        return a.firstLike(0, b, 0);
      },
      "f32[img, 4]",
    ],
    ["of shapeValue is its count", () => value(["n", 2, 3]).shapeValue(1, 3), "i64[2]"],
  ])("%s", (_, build, wanted) => {
    const result = build();
    expect(result.text()).toBe(`${result.name} ${wanted}`);
  });

  test("counts negative axes from the end", () => {
    expect(value(["n", 2, 3]).dim(-1)).toBe(3);
    expect(() => value([2]).dim(1)).toThrow("internal: x f32[2] has no axis 1");
  });
});

describe("refusals name both sides and the place", () => {
  const refused = (build: (graph: Graph) => unknown) => {
    const graph = new Graph("test");
    try {
      graph.scoped("blocks.0.attn", () => build(graph));
    } catch (error) {
      return (error as Error).message;
    }
    return "nothing was refused";
  };
  const f32 = (graph: Graph, name: string, shape: Shape) => graph.input(name, "f32", shape);

  test.each<[string, (graph: Graph) => unknown, string]>([
    [
      "add",
      (g) => f32(g, "x", [1, "n", 12]).add(f32(g, "y", [16])),
      'Cannot add x f32[1, n, 12] and y f32[16]: lengths 12 and 16 differ in "blocks.0.attn/Add"',
    ],
    [
      "sub",
      (g) => f32(g, "x", ["n"]).sub(f32(g, "y", ["m"])),
      'Cannot subtract x f32[n] and y f32[m]: lengths n and m differ in "blocks.0.attn/Sub"',
    ],
    [
      "mul",
      (g) => f32(g, "x", [2, 3]).mul(f32(g, "y", [3, 3])),
      'Cannot multiply x f32[2, 3] and y f32[3, 3]: lengths 2 and 3 differ in "blocks.0.attn/Mul"',
    ],
    [
      "div",
      (g) => f32(g, "x", [2]).div(f32(g, "y", [3])),
      'Cannot divide x f32[2] and y f32[3]: lengths 2 and 3 differ in "blocks.0.attn/Div"',
    ],
    [
      "types",
      (g) => f32(g, "x", [2]).add(g.input("y", "bf16", [2])),
      'Cannot combine x f32[2] and y bf16[2]: types f32 and bf16 differ in "blocks.0.attn/Add"',
    ],
    [
      "matmul",
      (g) => f32(g, "x", [1, "n", 12]).matmul(f32(g, "w", [16, 16])),
      'Cannot multiply x f32[1, n, 12] and w f32[16, 16]: inner lengths 12 and 16 differ in "blocks.0.attn/MatMul"',
    ],
    [
      "matmul of types",
      (g) => f32(g, "x", [2, 3]).matmul(g.input("w", "f16", [3, 2])),
      'Cannot combine x f32[2, 3] and w f16[3, 2]: types f32 and f16 differ in "blocks.0.attn/MatMul"',
    ],
    [
      "reshape",
      (g) => f32(g, "x", [2, 3]).reshape([7]),
      'Cannot reshape x f32[2, 3] to [7]: element counts differ in "blocks.0.attn/Reshape"',
    ],
    [
      "reshape of names",
      (g) => f32(g, "x", ["a", "b", 4]).reshape(["b", "a", 4]),
      'Cannot reshape x f32[a, b, 4] to [b, a, 4]: more than one named dimension moves in "blocks.0.attn/Reshape"',
    ],
    [
      "reshapeLike",
      (g) => f32(g, "x", ["a", 2]).reshapeLike(f32(g, "y", ["a", 3])),
      'Cannot reshape x f32[a, 2] and y f32[a, 3]: element counts differ in "blocks.0.attn/Reshape"',
    ],
    [
      "slice past the end",
      (g) => f32(g, "x", [2, 3]).slice(1, 1, 4),
      'Cannot slice x f32[2, 3] to [1, 4) of axis 1 in "blocks.0.attn/Slice"',
    ],
    [
      "slice of nothing",
      (g) => f32(g, "x", [2, 3]).slice(1, 2, 2),
      'Cannot slice x f32[2, 3] to [2, 2) of axis 1 in "blocks.0.attn/Slice"',
    ],
    [
      "slice of a named axis",
      (g) => f32(g, "x", ["n", 3]).slice(0, 0, 1),
      'Cannot slice x f32[n, 3] to [0, 1) of axis 0 in "blocks.0.attn/Slice"',
    ],
    [
      "cut",
      (g) => f32(g, "x", [2, 7]).cut([3, 3], 1),
      'Cannot cut x f32[2, 7] into 3 + 3 along axis 1 in "blocks.0.attn/Split"',
    ],
    [
      "chunk",
      (g) => f32(g, "x", [2, 7]).chunk(3, 1),
      'Cannot cut x f32[2, 7] into 3 parts along axis 1 in "blocks.0.attn/Split"',
    ],
    [
      "concat",
      (g) => concat([f32(g, "x", [2, 3]), f32(g, "y", [2, 4])], 0),
      'Cannot join x f32[2, 3] and y f32[2, 4] along axis 0 in "blocks.0.attn/Concat"',
    ],
    ["transpose", (g) => f32(g, "x", [2, 3]).transpose([0]), "internal: cannot transpose x f32[2, 3] by [0]"],
  ])("%s", (_, build, message) => {
    expect(refused(build)).toBe(message);
  });

  test("and add no node", () => {
    const graph = new Graph("test");
    expect(() => f32(graph, "x", [2]).add(f32(graph, "y", [3]))).toThrow();
    expect(graph.nodes).toEqual([]);
  });
});

test("numbers become constants of the value's own type", () => {
  const graph = new Graph("test");
  graph.input("x", "bf16", [2]).mul(2);
  expect([...graph.constants.values()].map(({ dtype, shape }) => ({ dtype, shape }))).toEqual([
    { dtype: "bf16", shape: [] },
  ]);
});

test("bfloat16 arithmetic rounds as the type does", async () => {
  const y: Tensor = tensor("float32", [2], Float32Array.of(1 + 2 ** -9, 3.14159));
  const found = await evaluateOne({ y }, ({ y }) => y!.cast("bf16").cast("f32"));
  expect([...found.data]).toEqual([1, 3.140625]);
});
