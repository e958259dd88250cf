// The fused operators beside plain JavaScript, on small sides that are all different, and what they refuse.
import { describe, expect, test } from "vitest";
import { Graph } from "../../src/graph/graph.js";
import {
  causalAttention,
  conv2d,
  gelu,
  gemm,
  layerNorm,
  multiHeadAttention,
  rmsNorm,
  rotary,
  silu,
  upsampleNearest2x,
} from "../../src/graph/operators.js";
import type { DType, Shape } from "../../src/graph/types.js";
import type { Value } from "../../src/graph/value.js";
import type { Tensor } from "../../src/std/tensor.js";
import { at, difference, evaluateOne, formula, numbers, sum } from "./run.js";

/** Sums of a dozen float32 products, exponentials, square roots, and the tanh of ONNX Runtime. */
const FUSED_TOLERANCE = 5e-6;
const EPSILON = 1e-6;

const x = numbers([2, 3, 5]);
const [scale, shift] = [numbers([5], 2), numbers([5], 3)];

describe("gemm", () => {
  const [rows, weight, bias] = [numbers([3, 5]), numbers([4, 5], 2), numbers([4], 3)];

  test("multiplies by a weight as checkpoints store it", async () => {
    const found = await evaluateOne({ rows, weight }, ({ rows, weight }) => gemm(rows!, weight!));
    expect(
      difference(
        found,
        formula([3, 4], ([i, j]) => sum(5, (k) => at(rows, [i!, k]) * at(weight, [j!, k]))),
      ),
    ).toBeUndefined();
  });

  test("adds a bias to every row", async () => {
    const found = await evaluateOne({ rows, weight, bias }, ({ rows, weight, bias }) => gemm(rows!, weight!, bias!), {
      rows: ["n", 5],
    });
    expect(
      difference(
        found,
        formula([3, 4], ([i, j]) => at(bias, [j!]) + sum(5, (k) => at(rows, [i!, k]) * at(weight, [j!, k]))),
      ),
    ).toBeUndefined();
  });

  test("adds another result of the same shape", async () => {
    const added = numbers([3, 4], 4);
    const found = await evaluateOne(
      { rows, weight, added },
      ({ rows, weight, added }) => gemm(rows!, weight!, added!),
      { rows: ["n", 5], added: ["n", 4] },
    );
    expect(
      difference(
        found,
        formula([3, 4], ([i, j]) => at(added, [i!, j!]) + sum(5, (k) => at(rows, [i!, k]) * at(weight, [j!, k]))),
      ),
    ).toBeUndefined();
  });
});

describe("norms", () => {
  test("layerNorm normalises the last axis", async () => {
    const found = await evaluateOne({ x, scale, shift }, ({ x, scale, shift }) =>
      layerNorm(x!, scale!, shift!, EPSILON),
    );
    const wanted = formula([2, 3, 5], ([i, j, k]) => {
      const mean = sum(5, (each) => at(x, [i!, j!, each])) / 5;
      const variance = sum(5, (each) => (at(x, [i!, j!, each]) - mean) ** 2) / 5;
      return ((at(x, [i!, j!, k!]) - mean) / Math.sqrt(variance + EPSILON)) * at(scale, [k!]) + at(shift, [k!]);
    });
    expect(difference(found, wanted, FUSED_TOLERANCE)).toBeUndefined();
  });

  test("rmsNorm divides by the root mean square of the last axis", async () => {
    const found = await evaluateOne({ x, scale }, ({ x, scale }) => rmsNorm(x!, scale!, 0.25));
    const wanted = formula(
      [2, 3, 5],
      ([i, j, k]) =>
        (at(x, [i!, j!, k!]) / Math.sqrt(sum(5, (each) => at(x, [i!, j!, each]) ** 2) / 5 + 0.25)) * at(scale, [k!]),
    );
    expect(difference(found, wanted, FUSED_TOLERANCE)).toBeUndefined();
  });
});

describe("activations", () => {
  // Abramowitz and Stegun 7.1.26 is too coarse for float32: the series of erf, exact for |x| < 3.
  const erf = (z: number) =>
    (2 / Math.sqrt(Math.PI)) * sum(40, (n) => ((-1) ** n * z ** (2 * n + 1)) / (factorial(n) * (2 * n + 1)));
  const factorial = (n: number): number => (n === 0 ? 1 : n * factorial(n - 1));

  test.each<[string, (x: Value) => Value, (x: number) => number]>([
    ["silu", silu, (x) => x / (1 + Math.exp(-x))],
    [
      "gelu by tanh",
      (x) => gelu(x, "tanh"),
      (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    ],
    ["gelu by erf", (x) => gelu(x, "none"), (x) => 0.5 * x * (1 + erf(x / Math.SQRT2))],
  ])("%s", async (_, build, plain) => {
    const found = await evaluateOne({ x }, ({ x }) => build(x!));
    expect(
      difference(
        found,
        formula([2, 3, 5], (index) => plain(at(x, index))),
        FUSED_TOLERANCE,
      ),
    ).toBeUndefined();
  });
});

describe("rotary", () => {
  const [heads, size, tokens] = [3, 4, 5];
  const y = numbers([1, tokens, heads * size]);
  const angle = formula([1, tokens, size / 2], ([, token, pair]) => (token! + 1) / (pair! + 2));
  const cos = formula(angle.shape, (index) => Math.cos(at(angle, index)));
  const sin = formula(angle.shape, (index) => Math.sin(at(angle, index)));

  test.each([
    ["interleaved", (pair: number) => [2 * pair, 2 * pair + 1]],
    ["halves", (pair: number) => [pair, pair + size / 2]],
  ] as const)("turns pairs that lie as %s", async (pairs, places) => {
    const found = await evaluateOne(
      { y, cos, sin },
      ({ y, cos, sin }) => rotary(y!, { cos: cos!, sin: sin! }, { heads, pairs }),
      { y: [1, "t", 12], cos: [1, "t", 2], sin: [1, "t", 2] },
    );
    const wanted = formula(y.shape, ([, token, element]) => {
      const head = Math.floor(element! / size) * size;
      const pair = [0, 1].find((each) => places(each).includes(element! - head))!;
      const [real, imaginary] = places(pair).map((place) => at(y, [0, token!, head + place])) as [number, number];
      const [c, s] = [at(cos, [0, token!, pair]), at(sin, [0, token!, pair])];
      return element! - head === places(pair)[0] ? real * c - imaginary * s : real * s + imaginary * c;
    });
    expect(difference(found, wanted)).toBeUndefined();
  });
});

describe("attention", () => {
  const tokens = 5;
  const size = 4;

  // Softmax attention of query head h over the key and value head that serves it.
  function attention(
    { q, k, v }: Record<"q" | "k" | "v", Tensor>,
    { heads, keyHeads, score }: { heads: number; keyHeads: number; score: (i: number, j: number) => number },
  ) {
    return formula([1, tokens, heads * size], ([, i, element]) => {
      const head = Math.floor(element! / size);
      const keyHead = Math.floor(head / (heads / keyHeads));
      const weights = Array.from({ length: tokens }, (_, j) => {
        const dot = sum(size, (d) => at(q, [0, i!, head * size + d]) * at(k, [0, j, keyHead * size + d]));
        return Math.exp(dot / Math.sqrt(size) + score(i!, j));
      });
      const total = weights.reduce((a, b) => a + b);
      return sum(tokens, (j) => (weights[j]! / total) * at(v, [0, j, keyHead * size + (element! % size)]));
    });
  }

  const q = numbers([1, tokens, 6 * size], 1);
  const [k, v] = [numbers([1, tokens, 6 * size], 2), numbers([1, tokens, 6 * size], 3)];

  test("multiHeadAttention lets every token see every token", async () => {
    const found = await evaluateOne({ q, k, v }, ({ q, k, v }) => multiHeadAttention({ q: q!, k: k!, v: v! }, 6), {
      q: [1, "t", 24],
      k: [1, "t", 24],
      v: [1, "t", 24],
    });
    expect(
      difference(found, attention({ q, k, v }, { heads: 6, keyHeads: 6, score: () => 0 }), FUSED_TOLERANCE),
    ).toBeUndefined();
  });

  test("multiHeadAttention adds a bias to the scores", async () => {
    const bias = formula([1, 1, tokens, tokens], ([, , i, j]) => i! * 0.3 - j! * 0.7);
    const found = await evaluateOne({ q, k, v, bias }, ({ q, k, v, bias }) =>
      multiHeadAttention({ q: q!, k: k!, v: v! }, 6, bias!),
    );
    expect(
      difference(
        found,
        attention({ q, k, v }, { heads: 6, keyHeads: 6, score: (i, j) => i * 0.3 - j * 0.7 }),
        FUSED_TOLERANCE,
      ),
    ).toBeUndefined();
  });

  test("causalAttention lets a token see those before it, each key head serving its query heads", async () => {
    const [fewK, fewV] = [numbers([1, tokens, 2 * size], 2), numbers([1, tokens, 2 * size], 3)];
    const found = await evaluateOne({ q, fewK, fewV }, ({ q, fewK, fewV }) =>
      causalAttention({ q: q!, k: fewK!, v: fewV! }, { query: 6, keyValue: 2 }),
    );
    const score = (i: number, j: number) => (j > i ? -Infinity : 0);
    expect(
      difference(found, attention({ q, k: fewK, v: fewV }, { heads: 6, keyHeads: 2, score }), FUSED_TOLERANCE),
    ).toBeUndefined();
  });
});

describe("conv2d", () => {
  const picture = numbers([1, 2, 6, 8]);
  const [weight, bias] = [numbers([3, 2, 3, 2], 2), numbers([3], 3)];

  test.each([
    [1, [0, 0, 0, 0], "n", "m"],
    [1, [1, 0, 1, 1], "n", "m"],
    [2, [0, 1, 1, 0], "2*n", "2*m"],
  ] as const)("with stride %i and pads %j", async (stride, pads, height, width) => {
    const [top, left, bottom, right] = pads;
    const wanted = formula(
      [1, 3, Math.floor((6 + top + bottom - 3) / stride) + 1, Math.floor((8 + left + right - 2) / stride) + 1],
      ([, out, i, j]) => {
        const inside = (y: number, x: number) => y >= 0 && y < 6 && x >= 0 && x < 8;
        return (
          at(bias, [out!]) +
          sum(2, (c) =>
            sum(3, (dy) =>
              sum(2, (dx) => {
                const [y, x] = [i! * stride + dy - top, j! * stride + dx - left];
                return inside(y, x) ? at(picture, [0, c, y, x]) * at(weight, [out!, c, dy, dx]) : 0;
              }),
            ),
          )
        );
      },
    );
    const build = ({ picture, weight, bias }: Readonly<Record<string, Value>>) =>
      conv2d(picture!, { weight: weight!, bias: bias! }, { stride, pads });
    expect(difference(await evaluateOne({ picture, weight, bias }, build), wanted, FUSED_TOLERANCE)).toBeUndefined();
    // Named sides: the result at run time is that of numbered ones.
    expect(
      difference(
        await evaluateOne({ picture, weight, bias }, build, { picture: [1, 2, height, width] }),
        wanted,
        FUSED_TOLERANCE,
      ),
    ).toBeUndefined();
  });

  test.each<[Shape, number, readonly [number, number, number, number], Shape]>([
    [[1, 2, "8*h", "8*w"], 1, [1, 1, 1, 1], [1, 3, "8*h", "8*w"]],
    [[1, 2, "8*h", "8*w"], 2, [0, 0, 1, 1], [1, 3, "4*h", "4*w"]],
  ])("names the sides of %j at stride %i", (shape, stride, pads, wanted) => {
    const graph = new Graph("test");
    const value = (name: string, each: Shape) => graph.input(name, "f32", each);
    expect(
      conv2d(value("x", shape), { weight: value("w", [3, 2, 3, 3]), bias: value("b", [3]) }, { stride, pads }).shape,
    ).toEqual(wanted);
  });
});

test("upsampleNearest2x repeats every pixel twice in both directions", async () => {
  const picture = numbers([1, 2, 3, 4]);
  const found = await evaluateOne({ picture }, ({ picture }) => upsampleNearest2x(picture!), {
    picture: [1, 2, "h", "w"],
  });
  expect(found).toEqual(
    formula([1, 2, 6, 8], ([, c, i, j]) => at(picture, [0, c!, Math.floor(i! / 2), Math.floor(j! / 2)])),
  );
});

describe("refusals name the value, what does not fit, and the place", () => {
  const refused = (build: (value: (name: string, shape: Shape, dtype?: DType) => Value) => unknown) => {
    const graph = new Graph("test");
    try {
      graph.scoped("blocks.0", () => build((name, shape, dtype = "f32") => graph.input(name, dtype, shape)));
    } catch (error) {
      return (error as Error).message;
    }
    return "nothing was refused";
  };

  test.each<[string, Parameters<typeof refused>[0], string]>([
    [
      "gemm of other lengths",
      (v) => gemm(v("x", ["n", 5]), v("w", [4, 6])),
      'Cannot apply Gemm to x f32[n, 5]: it does not fit w f32[4, 6] in "blocks.0/Gemm"',
    ],
    [
      "gemm of other types",
      (v) => gemm(v("x", ["n", 5]), v("w", [4, 5], "bf16")),
      'Cannot apply Gemm to x f32[n, 5]: it does not fit w bf16[4, 5] in "blocks.0/Gemm"',
    ],
    [
      "gemm with another bias",
      (v) => gemm(v("x", ["n", 5]), v("w", [4, 5]), v("b", [5])),
      'Cannot apply Gemm to x f32[n, 5]: bias b f32[5] does not fit w f32[4, 5] in "blocks.0/Gemm"',
    ],
    [
      "gemm with another result to add",
      (v) => gemm(v("x", ["n", 5]), v("w", [4, 5]), v("b", ["m", 4])),
      'Cannot apply Gemm to x f32[n, 5]: bias b f32[m, 4] does not fit w f32[4, 5] in "blocks.0/Gemm"',
    ],
    [
      "layerNorm",
      (v) => layerNorm(v("x", [1, "n", 5]), v("s", [5]), v("t", [4]), EPSILON),
      'Cannot apply LayerNormalization to x f32[1, n, 5]: t f32[4] does not fit in "blocks.0/LayerNormalization"',
    ],
    [
      "rmsNorm",
      (v) => rmsNorm(v("x", [1, "n", 5]), v("w", [4]), EPSILON),
      'Cannot apply RMSNormalization to x f32[1, n, 5]: w f32[4] does not fit in "blocks.0/RMSNormalization"',
    ],
    [
      "rotary",
      (v) =>
        rotary(
          v("x", [1, "t", 12]),
          { cos: v("cos", [1, "t", 3]), sin: v("sin", [1, "t", 3]) },
          { heads: 3, pairs: "halves" },
        ),
      'Cannot apply RotaryEmbedding to x f32[1, t, 12]: 3 heads and cos f32[1, t, 3] do not fit in "blocks.0/RotaryEmbedding"',
    ],
    [
      "multiHeadAttention",
      (v) => multiHeadAttention({ q: v("q", [1, "t", 12]), k: v("k", [1, "t", 8]), v: v("v", [1, "t", 8]) }, 3),
      'Cannot apply MultiHeadAttention to q f32[1, t, 12]: 3 heads of k f32[1, t, 8] do not fit in "blocks.0/MultiHeadAttention"',
    ],
    [
      "causalAttention",
      (v) =>
        causalAttention(
          { q: v("q", [1, "t", 12]), k: v("k", [1, "t", 6]), v: v("v", [1, "t", 6]) },
          { query: 3, keyValue: 1 },
        ),
      'Cannot apply Attention to q f32[1, t, 12]: 3 heads and 1 heads of k f32[1, t, 6] do not fit in "blocks.0/Attention"',
    ],
    [
      "conv2d of other channels",
      (v) =>
        conv2d(
          v("x", [1, 4, "h", "w"]),
          { weight: v("k", [3, 2, 3, 3]), bias: v("b", [3]) },
          { stride: 1, pads: [1, 1, 1, 1] },
        ),
      'Cannot apply Conv to x f32[1, 4, h, w]: k f32[3, 2, 3, 3] does not fit in "blocks.0/Conv"',
    ],
    [
      "conv2d over a side that its stride does not divide",
      (v) =>
        conv2d(
          v("x", [1, 2, "h", "2*w"]),
          { weight: v("k", [3, 2, 3, 3]), bias: v("b", [3]) },
          { stride: 2, pads: [0, 0, 1, 1] },
        ),
      'Cannot apply Conv to x f32[1, 2, h, 2*w]: stride 2 does not divide it in "blocks.0/Conv"',
    ],
  ])("%s", (_, build, message) => {
    expect(refused(build)).toBe(message);
  });
});
