// Planned bytes of runs against the size of ONNX Runtime's arena on the CPU, from its log, at the published widths.
import { describe, expect, test } from "vitest";
import { addInLayerNorm, type GraphForm } from "../../bench/graph-forms.js";
import { randomCheckpoint } from "../../bench/random-checkpoint.js";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { sessionRunMemory } from "../../src/engine/memory/session-run.js";
import type { Optimization } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import type { Lengths } from "../../src/graph/lengths.js";
import type { ConfigJson } from "../../src/models/config-json.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../src/models/qwen-image/vae.js";
import { buildLanguageModel } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower } from "../../src/models/qwen2.5-vl/vision.js";
import { runBytes } from "../../src/stages/networks/within-memory.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { arenaBytes } from "../support/ort-arena.js";

const folder = temporaryFolder();
const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const CUDA = { provider: "cuda", index: 0, threads: 1 } as const;

/** Writes random weights of the published shapes, for the keys that are wanted. */
async function published(name: PublishedName, wanted: (key: string) => boolean): Promise<string> {
  const path = folder.at(`${name}.safetensors`);
  await randomCheckpoint(
    path,
    publishedTensors(name).filter(({ name: key }) => wanted(key)),
  );
  return path;
}

interface Case {
  readonly name: string;
  readonly optimization: Optimization;
  readonly form?: GraphForm;
  readonly lengths: Lengths;
  readonly file: () => Promise<string>;
  readonly build: (graph: Graph, w: Weights, config: ConfigJson) => void;
}

const f32 = { compute: "f32" } as const;
const FIRST = /^(?:transformer_blocks|model\.layers)\.0\.|^(?!transformer_blocks|model)/;
const transformer = (graph: Graph, w: Weights, config: ConfigJson) =>
  buildTransformer(graph, w, {
    config: transformerConfig(w, config),
    ...f32,
    blocks: { from: 0, to: 1 },
    isModulationFed: true,
  });
const language = (graph: Graph, w: Weights) => buildLanguageModel(graph, w, { config: languageConfig(w, {}), ...f32 });
const vision = (graph: Graph, w: Weights) => buildVisionTower(graph, w, { config: visionConfig(w, {}), ...f32 });
const transformerFile = () =>
  published("qwen_image_edit_2509_fp8_e4m3fn", (key) => FIRST.test(key) && !key.includes("_mod."));
const languageFile = () => published("qwen_2.5_vl_7b_fp8_scaled", (key) => /^model\.(layers\.0|norm)\./.test(key));
const visionFile = () =>
  published("qwen_2.5_vl_7b_fp8_scaled", (key) => /^visual\.(blocks\.[01]|patch_embed|merger)\./.test(key));
const vaeFile = () => published("qwen_image_vae", () => true);
const tiny = (name: string) => async () => fixture(`tiny/${name}.safetensors`);

const CASES: readonly Case[] = [
  {
    name: "a block of the transformer",
    optimization: "none",
    lengths: { text: 50, target: 240, reference: 90 },
    file: transformerFile,
    build: transformer,
  },
  {
    name: "a block with SkipLayerNormalization",
    optimization: "none",
    form: addInLayerNorm,
    lengths: { text: 50, target: 240, reference: 90 },
    file: transformerFile,
    build: transformer,
  },
  {
    name: "a layer of the language model",
    optimization: "none",
    lengths: { tokens: 300 },
    file: languageFile,
    build: language,
  },
  {
    name: "two blocks of the vision tower",
    optimization: "none",
    lengths: { tokens: 187 },
    file: visionFile,
    build: vision,
  },
  {
    name: "the VAE encoder",
    optimization: "full",
    lengths: { h: 12, w: 20 },
    file: vaeFile,
    build: (graph, w) => buildVaeEncoder(graph, w, f32),
  },
  {
    name: "the VAE decoder",
    optimization: "full",
    lengths: { h: 12, w: 20 },
    file: vaeFile,
    build: (graph, w) => buildVaeDecoder(graph, w, f32),
  },
  {
    name: "the VAE decoder to bytes",
    optimization: "full",
    lengths: { h: 12, w: 20 },
    file: vaeFile,
    build: (graph, w) => buildVaeDecoder(graph, w, { ...f32, quantization: "round" }),
  },
  {
    name: "a tiny block over many tokens",
    optimization: "none",
    lengths: { text: 500, target: 4096, reference: 2000 },
    file: tiny("transformer"),
    build: transformer,
  },
  {
    name: "a tiny VAE decoder on a large picture",
    optimization: "full",
    lengths: { h: 64, w: 40 },
    file: tiny("vae"),
    build: (graph, w) => buildVaeDecoder(graph, w, f32),
  },
];

describe("the arena of a run is as large as planned", () => {
  test.each(CASES)("$name", { timeout: 120_000 }, async ({ optimization, form, lengths, file, build }) => {
    const checkpoint = await readSafetensors(await file());
    const graph = new Graph("measured");
    build(graph, Weights.of(graph, checkpoint), checkpointConfig(checkpoint));
    form?.(graph);
    const opened = { graph, optimization, ...f32 };
    const planned = sessionRunMemory(opened, lengths, CPU);
    expect(await arenaBytes(graph, lengths, { optimization, path: folder.at("model.onnx") })).toBe(planned.reserved);
    // Stages plan with the part that is written to on the CPU, and with the whole arena on a GPU.
    expect(runBytes(opened, lengths, CPU)).toBe(planned.touched);
    expect(planned.touched).toBeLessThanOrEqual(planned.reserved);
    expect(runBytes(opened, lengths, CUDA)).toBeGreaterThanOrEqual(sessionRunMemory(opened, lengths, CUDA).reserved);
  });
});
