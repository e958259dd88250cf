// Qwen3-VL at the published widths: two layers against transformers, and the published files by their headers.
import { rm } from "node:fs/promises";
import { afterAll, expect, test } from "vitest";
import { missingKernels } from "../../fixtures/kernels/kernels.js";
import { LAYERS, writeFullWidth } from "../../fixtures/oracle/qwen_image_2/full-width.js";
import { openPart } from "../../src/checkpoint/open.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { qwen3VisionConfig } from "../../src/models/qwen3-vl/qwen3-config.js";
import { qwen3Geometry } from "../../src/models/qwen3-vl/qwen3-vision.js";
import {
  buildLanguageModel,
  buildVisionTower,
  languageConfig,
  textEncoderNamed,
  visionConfig,
} from "../../src/models/text-encoders.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { elementCount, float32, type Tensor, tensor } from "../../src/std/tensor.js";
import { positionIds } from "../../src/text/positions.js";
import { temporaryFolder } from "../support/folder.js";
import { build } from "../support/full-size.js";
import { readGolden } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { publishedFile } from "../support/rotated-file.js";
import { expectParity, printParity } from "./table.js";

const folder = temporaryFolder();
afterAll(printParity);

/** Float32 sums of 12288 numbers in another order. */
const SAME = 2e-5;
/** Those of fixtures/oracle/qwen_image_2/full_width.py. */
const GRID = { rows: 4, columns: 6 };
const [BEFORE, AFTER] = [5, 4];

const noise = (seed: number, shape: readonly number[]) => float32(shape, randn(BigInt(seed), elementCount(shape)));

test("two blocks of the vision tower at the published widths give transformers' numbers", async () => {
  const [path, golden] = [folder.at("vision.safetensors"), await readGolden("qwen3-vl-full-width", "tiny-2")];
  await writeFullWidth(path, "vision");
  const checkpoint = await readSafetensors(path);
  const config = qwen3VisionConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  await using network = await openNetwork(checkpoint, {
    build: (graph, w) => buildVisionTower(graph, w, { config, compute: "f32" }),
    optimization: "none",
  });
  const out = await network.session.run({
    pixel_values: noise(1, [GRID.rows * GRID.columns, 1536]),
    ...qwen3Geometry(GRID, config),
  });
  for (const tap of ["image_embeds", "picture_features.0"]) {
    const at = { network: "Qwen3-VL vision tower", weights: "2 blocks of full width", tap };
    expectParity(at, [out[tap]!, golden.get(tap)], SAME);
  }
  expect(network.unused).toEqual([]);
  await rm(path);
});

test("two layers of the language model at the published widths give transformers' numbers", async () => {
  const [path, golden] = [folder.at("language.safetensors"), await readGolden("qwen3-vl-full-width", "tiny-2")];
  await writeFullWidth(path, "language");
  const checkpoint = await openPart(path, "text_encoder");
  const own = languageConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  expect(own).toMatchObject({ layers: LAYERS, heads: 32, keyValueHeads: 8, headDim: 128, width: 4096 });
  const config = { ...own, pictureFeatures: 1 };
  await using network = await openNetwork(checkpoint, {
    build: (graph, w) => buildLanguageModel(graph, w, { config, compute: "f32" }),
    optimization: "none",
  });
  const seen = (GRID.rows * GRID.columns) / 4;
  const tokens = BEFORE + seen + AFTER;
  const images = [{ start: BEFORE, count: seen, grid: [1, GRID.rows, GRID.columns] as const }];
  const features = float32([1 + seen, config.width]);
  features.data.set(noise(3, [seen, config.width]).data, config.width);
  const rows = Array.from({ length: tokens }, (_, at) => Math.max(0, at - BEFORE + 1) * Number(at < BEFORE + seen));
  const out = await network.session.run({
    inputs_embeds: noise(2, [1, tokens, config.width]),
    ...textEncoderNamed(config.family).languageFeeds(positionIds({ length: tokens, images }), config),
    "picture_features.0": features,
    feature_rows: tensor("int64", [tokens], BigInt64Array.from(rows.map(BigInt))),
  });
  const at = { network: "Qwen3-VL language model", weights: "2 layers of full width", tap: "hidden_states" };
  expectParity(at, [out["hidden_states"] as Tensor, golden.get("hidden_states")], SAME);
  expect(network.unused).toEqual([]);
  await rm(path);
});

test.each(["qwen3vl_8b_bf16", "qwen3vl_8b_int8_convrot"] as const)(
  "%s has the published size, builds with all of its tensors, and its language model opens",
  async (name) => {
    const path = folder.at(`${name}.safetensors`);
    await publishedFile(path, name);
    const file = await openModel(path, "textEncoder");
    const numbers = numbersOf(file.checkpoint);
    const [language, vision] = [languageConfig(numbers, {}), visionConfig(numbers, {})];
    expect(language).toMatchObject({ layers: 36, width: 4096, heads: 32, keyValueHeads: 8, pictureFeatures: 3 });
    expect(vision).toMatchObject({ blocks: 27, width: 1152, heads: 16, positionSide: 48, featureBlocks: [8, 16, 24] });
    const { unused, graphs } = build(file.checkpoint, [
      (graph, w) => buildLanguageModel(graph, w, { config: language, compute: "f32" }),
      (graph, w) => buildVisionTower(graph, w, { config: vision, compute: "f32" }),
    ]);
    const { isIdle } = textEncoderNamed("Qwen3-VL");
    expect(unused.filter((key) => !isIdle(key) && !/embed_tokens\.(weight_scale|comfy_quant)$/.test(key))).toEqual([]);
    const rounded = build(file.checkpoint, [
      (graph, w) => buildLanguageModel(graph, w, { config: language, compute: "bf16" }),
      (graph, w) => buildVisionTower(graph, w, { config: vision, compute: "bf16" }),
    ]);
    for (const graph of graphs) expect([...missingKernels(graph, "cpu"), ...missingKernels(graph, "cuda")]).toEqual([]);
    for (const graph of rounded.graphs) expect(missingKernels(graph, "cuda")).toEqual([]);
    const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
    for (const graph of graphs)
      await withSession(engine, await modelOf(graph, "none"), async () => {
        // Gigabytes of weights, and only what ONNX Runtime needs to know about them in memory.
        expect(process.memoryUsage.rss()).toBeLessThan(8e9);
      });
    await engine.dispose();
    await rm(path);
  },
);
