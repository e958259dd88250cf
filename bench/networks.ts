// The measured networks: tensors of their files, builders of their graphs, and feeds of a run.
// All shapes here are repeated in pytorch.py, which runs the same sizes.

import { publishedTensors } from "../fixtures/headers/published.js";
import type { Checkpoint } from "../src/checkpoint/checkpoint.js";
import { checkpointConfig } from "../src/checkpoint/safetensors/safetensors.js";
import type { HeaderEntry } from "../src/checkpoint/safetensors/safetensors-writer.js";
import { Weights } from "../src/checkpoint/weights.js";
import type { Optimization } from "../src/engine/sessions/engine.js";
import { Graph } from "../src/graph/graph.js";
import { fedVectors } from "../src/models/qwen-image/modulation.js";
import { ropeTables } from "../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../src/models/qwen-image/transformer.js";
import { type TransformerConfig, transformerConfig } from "../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel, multimodalRope } from "../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder } from "../src/models/vaes.js";
import { randn } from "../src/sampling/noise/noise.js";
import { elementCount, float32, type Tensor, type Tensors } from "../src/std/tensor.js";

/** A checkpoint file of networks. */
export interface BenchFile {
  readonly tensors: () => readonly HeaderEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Random weights, or a sparse file of zeros. */
  readonly content: "random" | "sparse";
}

/** Number of layers that represent a network at full width. */
const LAYERS = 2;

const transformer = () => publishedTensors("qwen_image_edit_2509_fp8_e4m3fn");

/** Files by name. */
export const FILES = {
  "transformer-60": { tensors: transformer, metadata: {}, content: "sparse" },
  "transformer-2": { tensors: () => firstLayers(transformer()), metadata: {}, content: "random" },
  "text-encoder-2": {
    tensors: () =>
      firstLayers(publishedTensors("qwen_2.5_vl_7b_fp8_scaled")).filter(
        ({ name }) => !/^(lm_head|model\.embed_tokens)\./.test(name),
      ),
    // Of the two vision blocks, one attends in windows and one over the whole picture.
    metadata: { config: JSON.stringify({ vision_config: { fullatt_block_indexes: [1] } }) },
    content: "random",
  },
  vae: { tensors: () => publishedTensors("qwen_image_vae"), metadata: {}, content: "random" },
} as const satisfies Record<string, BenchFile>;

/** The tensors of the first two layers of each network, and those of no layer. */
export function firstLayers(tensors: readonly HeaderEntry[]): HeaderEntry[] {
  return tensors.filter(
    ({ name }) => Number(/^(?:transformer_blocks|model\.layers|visual\.blocks)\.(\d+)\./.exec(name)?.[1] ?? 0) < LAYERS,
  );
}

/** A network at one size. */
export interface Network {
  readonly file: keyof typeof FILES;
  /** As in the stages; undefined: depends on the size of the weights. */
  readonly optimization?: Optimization;
  readonly build: (graph: Graph, weights: Weights, checkpoint: Checkpoint) => void;
  /** Feeds of a run; without them the network is only opened. */
  readonly feeds?: (checkpoint: Checkpoint) => Tensors;
}

/** Networks by name. */
export const NETWORKS: Readonly<Record<string, Network>> = {
  "transformer-60": { file: "transformer-60", build: transformerGraph },
  "transformer-2": { file: "transformer-2", build: transformerGraph, feeds: transformerFeeds },
  "blocks-2": { file: "transformer-2", build: blocksGraph, feeds: transformerFeeds },
  "stored-blocks-2": { file: "transformer-2", optimization: "none", build: storedBlocksGraph, feeds: fedFeeds },
  "vae-encode-512": vaeEncoder(512),
  "vae-encode-1024": vaeEncoder(1024),
  "vae-decode-512": vaeDecoder(512),
  "vae-decode-1024": vaeDecoder(1024),
  "vision-2": { file: "text-encoder-2", optimization: "none", build: visionGraph, feeds: visionFeeds },
  "language-2": { file: "text-encoder-2", optimization: "none", build: languageGraph, feeds: languageFeeds },
};

function vaeEncoder(side: number): Network {
  return {
    file: "vae",
    optimization: "full",
    build: (graph, weights) => buildVaeEncoder(graph, weights, { compute: "f32" }),
    feeds: () => ({ image: noise([1, 3, side, side]) }),
  };
}

function vaeDecoder(side: number): Network {
  return {
    file: "vae",
    optimization: "full",
    build: (graph, weights) => buildVaeDecoder(graph, weights, { compute: "f32" }),
    feeds: () => ({ latent: noise([1, 16, side / 8, side / 8]) }),
  };
}

function noise(shape: readonly number[]): Tensor<"float32"> {
  return float32(shape, randn(1, elementCount(shape)));
}

function transformerGraph(graph: Graph, weights: Weights, checkpoint: Checkpoint): void {
  buildTransformer(graph, weights, {
    config: transformerConfig(weights, checkpointConfig(checkpoint)),
    compute: "f32",
  });
}

// The blocks as those of a longer transformer, whose last block is another: nothing of them is left out.
function blocksGraph(graph: Graph, weights: Weights, checkpoint: Checkpoint): void {
  const config = longerConfig(weights, checkpoint);
  buildTransformer(graph, weights, { config, compute: "f32", blocks: { from: 0, to: LAYERS } });
}

// As a transformer is opened whose weights are widened at every step.
function storedBlocksGraph(graph: Graph, weights: Weights, checkpoint: Checkpoint): void {
  const config = longerConfig(weights, checkpoint);
  buildTransformer(graph, weights, { config, compute: "f32", blocks: { from: 0, to: LAYERS }, isModulationFed: true });
}

function longerConfig(weights: Weights, checkpoint: Checkpoint): TransformerConfig {
  return { ...transformerConfig(weights, checkpointConfig(checkpoint)), blocks: LAYERS + 1 };
}

/** Tokens along one side of a picture of 512 pixels. */
const SIDE = 32;
const PROMPT_TOKENS = 200;

function transformerFeeds(checkpoint: Checkpoint): Tensors {
  const config = transformerConfig(numbers(checkpoint), checkpointConfig(checkpoint));
  const grid = { rows: SIDE, columns: SIDE };
  const { cos, sin } = ropeTables(PROMPT_TOKENS, [grid, grid], config);
  return {
    latent_tokens: noise([1, SIDE * SIDE, config.patchWidth]),
    reference_tokens: noise([1, SIDE * SIDE, config.patchWidth]),
    prompt_embeds: noise([1, PROMPT_TOKENS, config.textWidth]),
    timestep: float32([1], Float32Array.of(0.75)),
    rope_cos: cos,
    rope_sin: sin,
  };
}

function fedFeeds(checkpoint: Checkpoint): Tensors {
  const { timestep: _, ...feeds } = transformerFeeds(checkpoint);
  const config = longerConfig(numbers(checkpoint), checkpoint);
  const vectors = fedVectors({ config, blocks: { from: 0, to: LAYERS } });
  return { ...feeds, "modulation.0": noise([vectors, config.heads * config.headDim]) };
}

function visionGraph(graph: Graph, weights: Weights, checkpoint: Checkpoint): void {
  buildVisionTower(graph, weights, { config: visionConfig(weights, checkpointConfig(checkpoint)), compute: "f32" });
}

/** Patches of 14 pixels along one side of a picture of 384 pixels, which is resized to 392. */
const PATCHES = 28;

function visionFeeds(checkpoint: Checkpoint): Tensors {
  const config = visionConfig(numbers(checkpoint), checkpointConfig(checkpoint));
  const values = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  return {
    pixel_values: noise([PATCHES * PATCHES, values]),
    ...visionGeometry({ rows: PATCHES, columns: PATCHES }, config),
  };
}

function languageGraph(graph: Graph, weights: Weights, checkpoint: Checkpoint): void {
  buildLanguageModel(graph, weights, { config: languageConfig(weights, checkpointConfig(checkpoint)), compute: "f32" });
}

/** The template, a short prompt and the 196 tokens of one picture. */
const LANGUAGE_TOKENS = 300;

function languageFeeds(checkpoint: Checkpoint): Tensors {
  const config = languageConfig(numbers(checkpoint), checkpointConfig(checkpoint));
  const row = Array.from({ length: LANGUAGE_TOKENS }, (_, position) => position);
  const { cos, sin } = multimodalRope([row, row, row], config);
  return { inputs_embeds: noise([1, LANGUAGE_TOKENS, config.width]), rope_cos: cos, rope_sin: sin };
}

function numbers(checkpoint: Checkpoint): Weights {
  return Weights.of(new Graph("numbers"), checkpoint);
}
