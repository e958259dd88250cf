// Qwen3-VL at tiny size against transformers, and prompts about pictures against diffusers' pipeline of Qwen-Image-2.1.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { overWhite } from "../../src/image/alpha.js";
import { type Image, toFloat } from "../../src/image/image.js";
import { visionPatches } from "../../src/image/patches.js";
import {
  buildLanguageModel,
  buildVisionTower,
  languageConfig,
  patchesOf,
  visionConfig,
} from "../../src/models/text-encoders.js";
import {
  type EmbeddedPicture,
  embeddedPicture,
  embedPrompt,
  imagePositions,
  pictureFeeds,
  promptEmbeds,
  templateOf,
} from "../../src/stages/networks/embed-prompt.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { languageNeeds, withLanguageModel } from "../../src/stages/networks/open-language-model.js";
import { visionNeeds, withVisionTower } from "../../src/stages/networks/open-vision-tower.js";
import type { Tensor } from "../../src/std/tensor.js";
import { contractImages } from "../../src/text/prompt.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { readGolden } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { type TinyTextEncoder, tinyTextEncoder2 } from "../support/tiny-2.js";

const folder = await mkdtemp(join(tmpdir(), "qedit-qwen3-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
const golden = await readGolden("text-encoder", "tiny-2");
const tokenizer = await loadTokenizer("qwen3");
const file = await openModel(await tinyTextEncoder2({ folder }), "textEncoder");
const numbers = numbersOf(file.checkpoint);
const [language, vision] = [languageConfig(numbers, file.config), visionConfig(numbers, file.config)];

const CASES = ["images0", "images1", "images2", "images3", "images10", "empty"];
const countOf = (name: string) => Number(/\d+$/.exec(name)?.[0] ?? 1);

/** A case's pictures as the vision tower takes them. */
function patchesOfCase(name: string) {
  return Array.from({ length: countOf(name) }, (_, index) => {
    const { shape, data } = golden.get(`${name}.picture_${index + 1}`);
    const [height, width] = shape as [number, number, number];
    const image: Image = { width, height, channels: 4, data: Uint8Array.from(data) };
    return visionPatches(toFloat(overWhite(image)), patchesOf(vision));
  });
}

function expectNear(found: Tensor | undefined, wanted: Tensor<"float32">): void {
  expect(found?.shape).toEqual(wanted.shape);
  expect(scaledError(found!.data as Float32Array, wanted.data)).toBeLessThanOrEqual(TOLERANCE.network);
}

/** Placeholders of a case before they were expanded, as its template has them. */
function idsOf(name: string): readonly number[] {
  return tokenizer.encode(
    templateOf("Qwen3-VL").write(golden.metadata[`${name}.prompt`]!, {
      slots: Array.from({ length: countOf(name) }, (_, index) => index + 1),
    }),
  );
}

test("the file's own shapes say what it is", () => {
  expect(language).toMatchObject({ family: "Qwen3-VL", layers: 3, width: 32, heads: 4, keyValueHeads: 2, headDim: 16 });
  expect(language).toMatchObject({ pictureFeatures: 2, ropeSections: [4, 2, 2], ropeTheta: 5e6 });
  expect(vision).toMatchObject({ blocks: 3, width: 32, heads: 2, patchSize: 16, temporalPatchSize: 2, mergeSize: 2 });
  expect(vision).toMatchObject({ positionSide: 6, featureBlocks: [0, 1] });
  expect(file.warning).toBeUndefined();
});

test("pictures are cut and normalised as Qwen3VLProcessor does it, over white", () => {
  const rows = patchesOfCase("images2").flatMap(({ pixelValues }) => [...pixelValues.data]);
  expect(scaledError(rows, golden.get("images2.pixel_values").data)).toBeLessThanOrEqual(1e-6);
});

describe.each(CASES)("%s", (name) => {
  const patches = patchesOfCase(name);

  test("the template has the tokens of transformers' Qwen2Tokenizer", () => {
    const all = [...golden.get(`${name}.input_ids`).data];
    const counts = patches.map(({ grid }) => (grid[1] * grid[2]) / 4);
    expect(idsOf(name)).toEqual(contractImages(all, counts));
  });

  test("the vision tower and the language model give the reference's numbers", async () => {
    await using tower = await openNetwork(file.checkpoint, {
      build: (graph, w) => buildVisionTower(graph, w, { config: vision, compute: "f32" }),
      optimization: "none",
    });
    const seen: EmbeddedPicture[] = [];
    for (const each of patches)
      seen.push(
        embeddedPicture(await tower.session.run(pictureFeeds(each, vision)), each, { config: vision, name: "x" }),
      );
    if (seen.length > 0) {
      const joined = (parts: readonly Tensor<"float32">[]) => parts.flatMap(({ data }) => [...data]);
      const near = (parts: readonly Tensor<"float32">[], key: string) =>
        expect(scaledError(joined(parts), golden.get(`${name}.${key}`).data)).toBeLessThanOrEqual(TOLERANCE.network);
      near(seen.map(({ embeds }) => embeds), "image_embeds"); // biome-ignore format: one line
      near(seen.map(({ features }) => features[0]!), "deepstack_0"); // biome-ignore format: one line
      near(seen.map(({ features }) => features[1]!), "deepstack_1"); // biome-ignore format: one line
    }
    await using model = await openNetwork(file.checkpoint, {
      build: (graph, w) => buildLanguageModel(graph, w, { config: language, compute: "f32" }),
      optimization: "none",
      taps: { layer0: "model.layers.0/Add_1" },
    });
    const prompt = await embedPrompt(idsOf(name), seen, { config: language, checkpoint: file.checkpoint });
    const out = await model.session.run(prompt.feeds);
    const [, tokens, width] = golden.get(`${name}.layer0`).shape;
    expectNear({ ...out["layer0"]!, shape: [1, tokens!, width!] }, golden.get(`${name}.layer0`));
    expectNear(promptEmbeds(out, prompt), golden.get(`${name}.prompt_embeds`));
    expect([...imagePositions(prompt, "Qwen3-VL")!.data]).toEqual([...golden.get(`${name}.image_positions`).data]);
  });
});

test("whole and layer by layer, tower and language model give the same", async () => {
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
  const context = { engine, emit: () => {}, signal: new AbortController().signal };
  const patches = patchesOfCase("images3");
  const encoded = async (vram: number | undefined) => {
    const limits = { ...context, vram };
    const run = { file, compute: "f32", tokens: 40 } as const;
    const seen = await withVisionTower({ ...run, config: vision }, limits, async (tower) =>
      (await tower.run(patches.map((each) => pictureFeeds(each, vision)))).map((each, index) =>
        embeddedPicture(each, patches[index]!, { config: vision, name: "x" }),
      ),
    );
    const prompt = await embedPrompt(idsOf("images3"), seen, { config: language, checkpoint: file.checkpoint });
    const [out] = await withLanguageModel({ ...run, config: language }, limits, (model) => model.run([prompt.feeds]));
    return promptEmbeds(out!, prompt);
  };
  const [whole, streamed] = [await encoded(undefined), await encoded(1)];
  await engine.dispose();
  expectNear(whole, golden.get("images3.prompt_embeds"));
  expect(scaledError(streamed.data, whole.data)).toBeLessThanOrEqual(1e-6);
});

test("the memory of both networks is planned, in the types of a GPU too", () => {
  for (const [device, compute] of [
    [{ provider: "cuda", index: 0, threads: 0 }, "bf16"],
    [{ provider: "cpu", index: 0, threads: 0 }, "f32"],
  ] as const) {
    const needs = [
      languageNeeds({ file, config: language, compute, tokens: 60 }, device),
      visionNeeds({ file, config: vision, compute, tokens: 12 }, device),
    ];
    for (const { layers, activations } of needs) {
      expect(layers.every((bytes) => bytes > 0)).toBe(true);
      expect(activations).toBeGreaterThan(60 * language.width);
    }
    // Mergers of features count with the blocks that they follow.
    const [first, , last] = needs[1]!.layers as [number, number, number];
    expect(first).toBeGreaterThan(last);
  }
});

describe("refused by name", () => {
  const refusalOf = async (options: TinyTextEncoder) =>
    openModel(await tinyTextEncoder2({ ...options, folder }), "textEncoder").then(
      () => "opened",
      ({ message }: Error) => message,
    );
  const edited = (change: (config: Record<string, Record<string, unknown>>) => unknown) => ({
    config: (text: string) => {
      const config = JSON.parse(text) as Record<string, Record<string, unknown>>;
      change(config);
      return JSON.stringify(config);
    },
  });

  test.each<[string, TinyTextEncoder, RegExp]>([
    [
      "another model of the same keys",
      edited((config) => Object.assign(config, { model_type: "qwen3" })),
      /its config says that it is "qwen3", "qwen3_vl" is wanted$/,
    ],
    [
      "rope sections that are no half of a head",
      edited(({ text_config: text }) => Object.assign(text!["rope_parameters"]!, { mrope_section: [4, 2, 1] })),
      /rope sections 4 \+ 2 \+ 1 do not add up to half a head of 16$/,
    ],
    [
      "features behind blocks that there are not",
      edited(({ vision_config: vision }) => Object.assign(vision!, { deepstack_visual_indexes: [0, 3] })),
      /it has 2 mergers of features \(deepstack_merger_list\) for blocks 0, 3 of 3$/,
    ],
    [
      "features behind blocks that are not known",
      edited(({ vision_config: vision }) => Object.assign(vision!, { deepstack_visual_indexes: undefined })),
      /for blocks that are not known of 3$/,
    ],
    [
      "a merger of features that lacks a part",
      { without: (name) => name.endsWith("deepstack_merger_list.1.linear_fc2.weight") },
      /Cannot find "visual\.deepstack_merger_list\.1\.linear_fc2\.weight"/,
    ],
    ["positions that are none", { without: (name) => name.includes("pos_embed") }, /not one of Qwen3-VL/],
  ])("%s", async (_, options, message) => {
    expect(await refusalOf(options)).toMatch(message);
  });

  test("pictures, without a vision tower", async () => {
    const path = await tinyTextEncoder2({ folder, without: (name) => name.startsWith("model.visual.") });
    const { checkpoint, config } = await openModel(path, "textEncoder");
    expect(() => visionConfig(numbersOf(checkpoint), config)).toThrow(/has no vision weights/);
    expect(languageConfig(numbersOf(checkpoint), config)).toMatchObject({ pictureFeatures: 0 });
  });
});

test.each(["BF16", "F16", "F8_E4M3"] as const)("weights stored as %s are read", async (storedAs) => {
  const { checkpoint, config, warning } = await openModel(await tinyTextEncoder2({ folder, storedAs }), "textEncoder");
  expect([languageConfig(numbersOf(checkpoint), config).layers, warning]).toEqual([3, undefined]);
});
