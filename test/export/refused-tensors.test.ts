// What exported models refuse: tensors of the right types and ranks that no edit has. A wrong picture without a word would be worse.
import { afterAll, describe, expect, test } from "vitest";
import { float32, type Tensors, tensor } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { exported, madePicture, openFiles, promptFeeds, wholes } from "./exported.js";

const files = await openFiles();
const models = await exported(files);
afterAll(() => models[Symbol.asyncDispose]());

test.each([
  [44, 40],
  [40, 44],
  [8, 7],
])("encode_image refuses a picture of %ix%i", async (height, width) => {
  const image = tensor("uint8", [height, width, 3], new Uint8Array(height * width * 3));
  await expect(models.run("encode_image", { image })).rejects.toThrow("sides of image must be multiples of 8");
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])("decode refuses latents with %d", async (value) => {
  const latents = float32([1, 16, 4, 4]);
  latents.data[17] = value;
  await expect(models.run("decode", { latents })).rejects.toThrow("the picture must be finite");
});

describe("encode_prompt refuses", async () => {
  const pictures = [madePicture([64, 48]), madePicture([40, 60], 2)];
  const feeds = await promptFeeds("make it winter", pictures, files.textEncoder);
  const ids = [...(feeds["input_ids"]!.data as BigInt64Array)].map(Number);
  const grid = [...(feeds["image_grid_thw"]!.data as BigInt64Array)].map(Number);
  const [START, PAD, END] = [151644, 151655, 151643];
  const withIds = (changed: readonly number[]) => ({ input_ids: wholes([1, changed.length], changed) });
  const withGrid = (changed: readonly number[]) => ({ image_grid_thw: wholes([changed.length / 3, 3], changed) });
  const pads = ids.flatMap((id, index) => (id === PAD ? [index] : []));
  const gap = pads.findIndex((at, index) => at + 1 !== pads[index + 1]);
  const noPictures = {
    pixel_values: float32([0, feeds["pixel_values"]!.shape[1]!]),
    image_grid_thw: wholes([0, 3], []),
  };
  const [patches, values] = feeds["pixel_values"]!.shape as [number, number];
  const withoutLastPatch = { pixel_values: float32([patches - 1, values]) };
  const notFitting = "once for each token of a picture";

  test.each<[string, Tensors, string]>([
    ["fewer image tokens than the pictures have", withIds(ids.toSpliced(pads[0]!, 1)), notFitting],
    ["pictures without any image token", withIds(ids.filter((id) => id !== PAD)), notFitting],
    [
      "image tokens of one picture at another one's place",
      withIds(ids.toSpliced(pads.at(-1)!, 1).toSpliced(pads[gap]!, 0, PAD)),
      "side by side",
    ],
    ["a word between the tokens of a picture", withIds(ids.toSpliced(pads[3]!, 0, 100)), "side by side"],
    ["a prompt without the template", withIds(ids.filter((id) => id !== START)), "in the edit template"],
    [
      "a prompt with one start of a message",
      withIds(ids.toSpliced(ids.lastIndexOf(START), 1).filter((id, at) => id !== START || at === 0)),
      "in the edit template",
    ],
    ["no token at all", { ...withIds([]), ...noPictures }, "in the edit template"],
    [
      "a prompt that ends in the system prompt",
      {
        ...withIds([ids[0]!, END, ...ids.slice(1)].filter((id) => id !== PAD)),
        ...noPictures,
      },
      "before <|endoftext|>",
    ],
    ["a token beyond the vocabulary", withIds(ids.with(-1, 10_000_000)), "input_ids must be from 0 to"],
    ["a negative token", withIds(ids.with(-1, -1)), "input_ids must be from 0 to"],
    ["a grid of more patches than there are", withGrid(grid.with(1, grid[1]! + 2)), "must have"],
    ["fewer patches than the grid has", withoutLastPatch, "pixel_values must have a row for each patch"],
    ["a grid of fewer pictures", withGrid(grid.slice(3)), "must"],
    ["a grid of two frames", withGrid(grid.with(0, 2)), "rows of 1, and two positive multiples of 2"],
    ["a grid of an odd count of patches", withGrid(grid.with(1, 3)), "rows of 1, and two positive multiples of 2"],
    ["a grid of nothing", withGrid(grid.with(1, 0)), "image_grid_thw must be positive"],
    [
      "a negative grid",
      withGrid(grid.map((length, at) => (at === 1 || at === 2 ? -length : length))),
      "image_grid_thw must be positive",
    ],
    ["a grid whose product overflows", withGrid([1, 2 ** 33, 2 ** 33, ...grid.slice(3)]), "no more patches than"],
    [
      "pixels that are not finite",
      {
        pixel_values: float32(
          feeds["pixel_values"]!.shape,
          Float32Array.from({ length: feeds["pixel_values"]!.data.length }, () => Number.NaN),
        ),
      },
      "must be finite",
    ],
  ])("%s", async (_, changed, message) => {
    await expect(models.run("encode_prompt", { ...feeds, ...changed })).rejects.toThrow(message);
  });

  test("nothing of what it was given unchanged", async () => {
    expect((await models.run("encode_prompt", feeds))["prompt_embeds"]!.shape).toEqual([1, expect.any(Number), 16]);
  });
});

describe("sample refuses", () => {
  const feeds = {
    noise: numbers([1, 16, 4, 6], 1),
    reference_tokens: numbers([1, 6 + 4, 64], 2),
    reference_sizes: wholes([2, 2], [4, 6, 3, 4]),
    prompt_embeds: numbers([1, 5, 16], 3),
    sigmas: float32([3], Float32Array.of(1, 0.6, 0)),
  };
  const levels = (...list: number[]) => ({ sigmas: float32([list.length], Float32Array.from(list)) });

  test.each<[string, Tensors, string]>([
    [
      "fewer reference tokens than their sizes say",
      { reference_tokens: numbers([1, 9, 64]) },
      "as many as reference_sizes says",
    ],
    ["more of them", { reference_tokens: numbers([1, 11, 64]) }, "as many as reference_sizes says"],
    ["one noise level, which is no step", levels(1), "two noise levels or more"],
    ["none", levels(), "two noise levels or more"],
    ["a level twice", levels(1, 0, 0), "sigmas must fall"],
    ["levels that rise", levels(0, 0.5, 1), "sigmas must fall"],
    ["a level above 1", levels(1.5, 1, 0), "from 1 at most"],
    ["a level below 0", levels(1, 0.5, -0.1), "to 0 at least"],
    ["a level that is no number", levels(1, Number.NaN, 0), "must be finite"],
    [
      "noise that is not finite",
      { noise: float32([1, 16, 4, 6], new Float32Array(16 * 24).fill(Number.NaN)) },
      "must be finite",
    ],
  ])("%s", async (_, changed, message) => {
    await expect(models.run("sample", { ...feeds, ...changed })).rejects.toThrow(message);
  });

  test("nothing of what it was given unchanged", async () => {
    expect((await models.run("sample", feeds))["latents"]!.shape).toEqual([1, 16, 4, 6]);
  });
});

test("files that do not belong together are refused at export", async () => {
  const other = await openFiles({ transformer: "tiny/transformer-bf16" });
  await expect(exported(other)).rejects.toThrow(
    /^Cannot use .*transformer-bf16.* with .*text-encoder.*: embeddings are 16 wide, 24 are wanted$/,
  );
});

test("a text encoder that knows too few tokens, or no pictures, is refused at export", async () => {
  const small = await openFiles({ transformer: "tiny/transformer-bf16", textEncoder: "tiny/text-encoder-bf16" });
  await expect(exported(small)).rejects.toThrow("its vocabulary has 320 tokens, the prompt needs 151656");
  const blind = await openFiles({ transformer: "tiny/transformer-bf16", textEncoder: "tiny/text-encoder-no-vision" });
  await expect(exported(blind)).rejects.toThrow("Cannot look at pictures");
});
