// Places of text, references and target of Qwen-Image-2.1 that are computed inside a graph, against those that are computed of tensors.
import { describe, expect, test } from "vitest";
import { gridOfLatent } from "../../src/models/graph-tokens.js";
import {
  misplacedReferences,
  oddSides,
  PATCH,
  packedRopes,
  packedTextMask,
} from "../../src/models/qwen-image-2/packed-sequence.js";
import { ropeTables, textMask } from "../../src/models/qwen-image-2/sequence.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { evaluate } from "../graph/run.js";

const CONFIG = {
  ...{ blocks: 1, heads: 2, headDim: 32, ropeAxes: [8, 12, 12], textWidth: 5, channels: 4, epsilon: 1e-6 },
};
const whole = (shape: readonly number[], list: readonly number[]) =>
  tensor("int64", shape, BigInt64Array.from(list.map(BigInt)));

test.each([
  ["no reference", 6, [], [], [4, 6]],
  ["one before all text", 5, [[2, 4]], [0], [4, 2]],
  ["one behind all text", 5, [[2, 4]], [5], [2, 2]],
  [
    "two at one place and one later",
    9,
    [
      [4, 2],
      [2, 6],
      [6, 4],
    ],
    [3, 3, 7],
    [4, 6],
  ],
  [
    "ten",
    30,
    Array.from({ length: 10 }, (_, index) => [2 + 2 * (index % 3), 4]),
    Array.from({ length: 10 }, (_, index) => 3 * index),
    [2, 8],
  ],
] as const)("rotary tables and the mask of %s", async (_, text, sizes, imagePositions, [h, w]) => {
  const count = sizes.reduce((sum, [rows, columns]) => sum + rows! * columns!, 0);
  const feeds = {
    prompt: float32([1, text, 1]),
    tokens: float32([1, count, 1]),
    sizes: whole([sizes.length, 2], sizes.flat()),
    places: whole([sizes.length], imagePositions),
    noise: float32([1, 4, h, w]),
  };
  const shapes = {
    ...{ prompt: [1, "text", 1], tokens: [1, "reference", 1], sizes: ["references", 2], places: ["references"] },
    noise: [1, 4, "h", "w"],
  };
  const found = await evaluate(
    feeds,
    ({ prompt, tokens, sizes: given, places, noise }) => {
      const sequence = {
        text: { count: prompt!.shapeValue(1, 2), name: "text" },
        references: { count: tokens!.shapeValue(1, 2), name: "reference", sizes: given! },
        imagePositions: places!,
        target: gridOfLatent(noise!, { rows: "rows", columns: "columns" }, PATCH),
      };
      const { prefix, target } = packedRopes(sequence, CONFIG);
      return [prefix.cos, prefix.sin, target.cos, target.sin, packedTextMask(sequence)];
    },
    shapes,
  );
  const sequence = {
    ...{ text, imagePositions, target: { rows: h, columns: w } },
    references: sizes.map(([rows, columns]) => ({ rows: rows!, columns: columns! })),
  };
  const { prefix, target } = ropeTables(sequence, CONFIG);
  expect(found).toEqual([prefix.cos, prefix.sin, target.cos, target.sin, textMask(sequence)]);
});

describe("what breaks the rules is counted", () => {
  test.each([
    [[], 4, 0],
    [[0, 0, 4], 4, 0],
    [[2, 1], 4, 1],
    [[3, 2, 1], 4, 3],
    [[1, 5], 4, 1],
    [[-1, 2], 4, 1],
  ])("places %j of %i tokens", async (places, text, wanted) => {
    const feeds = { places: whole([places.length], places), text: float32([text]) };
    const shapes = { places: ["references"], text: ["text"] };
    const [found] = await evaluate(
      feeds,
      (inputs) => misplacedReferences(inputs["places"]!, inputs["text"]!.shapeValue()),
      shapes,
    );
    expect(found!.data[0]).toBe(BigInt(wanted));
  });

  test.each([
    [[], 0],
    [[4, 6, 2, 2], 0],
    [[3, 6, 2, 5], 2],
  ])("sides of %j", async (sizes, wanted) => {
    const feeds = { sizes: whole([sizes.length / 2, 2], sizes) };
    const [found] = await evaluate(feeds, (inputs) => oddSides(inputs["sizes"]!), { sizes: ["references", 2] });
    expect(found!.data[0]).toBe(BigInt(wanted));
  });
});
