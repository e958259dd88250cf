// Tokens and rotary angles that are computed inside a graph, against those that are computed of tensors.
import { expect, test } from "vitest";
import { gridOfLatent, latentOfTokens, latentTokens, ropeOfPositions } from "../../src/models/graph-tokens.js";
import { referencePositions, targetPositions, textPositions } from "../../src/models/qwen-image/token-positions.js";
import { patchify, placedGrids, ropeTables, unpatchify } from "../../src/models/qwen-image/tokens.js";
import { type Tensor, tensor } from "../../src/std/tensor.js";
import { evaluate, numbers } from "../graph/run.js";

const CONFIG = {
  ...{ blocks: 1, heads: 3, headDim: 32, ropeAxes: [8, 12, 12], textWidth: 5, patchWidth: 20, patchSize: 2 },
  ...{ epsilon: 1e-6, referencesAtZero: false },
};
const NAMES = { rows: "rows", columns: "columns" };
/** Even and odd counts of cells, wide and tall. */
const SIZES = [
  [6, 8],
  [5, 7],
  [1, 4],
  [9, 2],
] as const;

test.each(SIZES)(
  "a latent of %ix%i cells becomes the tokens of patchify, and a latent again",
  async (height, width) => {
    const latent = numbers([1, 5, height, width]);
    const [tokens, again] = await evaluate(
      { latent },
      ({ latent }) => {
        const grid = gridOfLatent(latent!, NAMES, CONFIG);
        const tokens = latentTokens(latent!, grid, CONFIG);
        return [tokens, latentOfTokens(tokens, grid, { like: latent!, config: CONFIG })];
      },
      { latent: [1, 5, "h", "w"] },
    );
    expect(tokens).toEqual(patchify([latent], CONFIG));
    expect(again).toEqual(unpatchify(tokens as Tensor<"float32">, latent.shape, CONFIG));
  },
);

const whole = (shape: readonly number[], list: readonly number[]) =>
  tensor("int64", shape, BigInt64Array.from(list.map(BigInt)));

test.each([
  ["in frames of their own", {}],
  ["in one frame", { referencesInOneFrame: true }],
] as const)("references %s have the angles of ropeTables", async (_, placing) => {
  const config = { ...CONFIG, ...placing };
  for (const references of [1, 2, 3]) {
    for (const [rows, columns] of SIZES) {
      const target = numbers([1, 5, rows, columns]);
      const sizes = [
        [4, 10],
        [5, 7],
        [9, 3],
      ].slice(0, references);
      const latents = sizes.map(([height, width]) => numbers([1, 5, height!, width!]));
      const packed = patchify(latents, config);
      const feeds = { target, packed, sizes: whole([references, 2], sizes.flat()), text: numbers([1, 11]) };
      const [cos, sin] = await evaluate(
        feeds,
        ({ target, packed, sizes, text }) => {
          const grid = gridOfLatent(target!, NAMES, config);
          const images = { count: packed!.shapeValue(1, 2), name: "reference", sizes: sizes! };
          const parts = [
            textPositions(text!.shapeValue(1, 2), "text", grid),
            targetPositions(grid),
            referencePositions(images, config),
          ];
          const rope = ropeOfPositions(parts, config);
          return [rope.cos, rope.sin];
        },
        { target: [1, 5, "h", "w"], packed: [1, "reference", 20], sizes: ["references", 2], text: [1, "text"] },
      );
      const wanted = ropeTables(11, placedGrids(target, latents, config), config);
      expect([cos, sin]).toEqual([wanted.cos, wanted.sin]);
    }
  }
});
