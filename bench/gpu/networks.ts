// The networks that are measured on a device: graphs as the stages build them, and feeds of a run.

import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type Adapter, Weights } from "../../src/checkpoint/weights.js";
import { computeType, type Device } from "../../src/engine/providers.js";
import type { Engine, Optimization } from "../../src/engine/sessions/engine.js";
import { affordableOptimization } from "../../src/engine/sessions/optimization.js";
import { Graph } from "../../src/graph/graph.js";
import { gemm } from "../../src/graph/operators.js";
import type { DType } from "../../src/graph/types.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { type Grid, ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel, multimodalRope } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "../../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder, vaeConfig } from "../../src/models/vaes.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { openModulation } from "../../src/stages/networks/modulation-table.js";
import { elementCount, float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import { FEW_BLOCKS } from "./blocks.js";
import type { ModelFiles } from "./files.js";
import type { Sizes } from "./sizes.js";

/** Options of a network. */
export interface Opening {
  readonly files: ModelFiles;
  readonly sizes: Sizes;
  readonly device: Device;
  /** Whether the CPU emulates the device: the device's graphs and types, with every result rounded. */
  readonly isRehearsal: boolean;
}

/** A network with its graph. */
export interface BuiltNetwork {
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
  /** Feeds of a run with a number of references; the engine computes what they depend on. */
  readonly feeds: (references: number, engine: Engine) => Promise<Tensors>;
  /** Further parameters for another implementation. */
  readonly beside?: Tensors;
}

/** Networks by name. */
export const GPU_NETWORKS = {
  transformer: (opening: Opening) => transformer(opening, false),
  "transformer-lora": (opening: Opening) => transformer(opening, true),
  "vae-encode": (opening: Opening) => vae(opening, "encode"),
  "vae-encode-f32": (opening: Opening) => vae(opening, "encode", "float32"),
  "vae-decode": (opening: Opening) => vae(opening, "decode"),
  "vae-decode-f32": (opening: Opening) => vae(opening, "decode", "float32"),
  vision: (opening: Opening) => vision(opening),
  "vision-bf16": (opening: Opening) => vision(opening, "bfloat16"),
  language: (opening: Opening) => language(opening),
  "language-bf16": (opening: Opening) => language(opening, "bfloat16"),
  matrix: (opening: Opening) => matrix(opening, 0),
  "matrix-longer": (opening: Opening) => matrix(opening, opening.sizes.products),
  "vae-decode-bytes": vaeToBytes,
  ...FEW_BLOCKS,
} as const satisfies Record<string, (opening: Opening) => Promise<BuiltNetwork>>;

/** Name of a network in GPU_NETWORKS. */
export type GpuNetworkName = keyof typeof GPU_NETWORKS;

/** The networks other than the transformer, as an edit runs them. */
export const OTHER_NETWORKS = [
  "vae-decode",
  "vae-encode",
  "language",
  "vision",
] as const satisfies readonly GpuNetworkName[];

/** The same in the other type that CUDA may compute them in; the CPU has one type. */
export const OTHER_TYPES = [
  "language-bf16",
  "vision-bf16",
  "vae-decode-f32",
  "vae-encode-f32",
] as const satisfies readonly GpuNetworkName[];

function noise(seed: number, shape: readonly number[]): Tensor<"float32"> {
  return float32(shape, randn(seed, elementCount(shape)));
}

/** The noise level of a step that is measured. */
const SIGMA = 0.75;

async function transformer({ files, sizes, device }: Opening, isLora: boolean): Promise<BuiltNetwork> {
  const file = await openModel(files.transformer, "transformer");
  const { checkpoint } = file;
  const config = transformerConfig(numbersOf(checkpoint), file.config);
  const compute = computeType(device, "transformer");
  const adapters: Adapter[] = isLora
    ? [{ name: "lora_strength.0", modules: (await matchLora(await readSafetensors(files.lora), checkpoint)).matched }]
    : [];
  const graph = new Graph("the transformer");
  const optimization = affordableOptimization({ externals: checkpoint.tensors }, device);
  // As the sample stage opens it if all of it fits.
  const isModulationFed = optimization === "none";
  buildTransformer(graph, Weights.of(graph, checkpoint, adapters), { config, compute, isModulationFed });
  const grid: Grid = { rows: sizes.side, columns: sizes.side };
  const timestep = { timestep: float32([1], Float32Array.of(SIGMA)) };
  return {
    graph,
    optimization,
    compute,
    beside: timestep,
    async feeds(references, engine) {
      const context = { engine, emit: () => {}, signal: new AbortController().signal };
      const modulation = () =>
        openModulation({ file, network: qwenImage(config), compute, loras: [] }, [SIGMA], context).then((table) =>
          table.feeds(SIGMA, [{ blocks: { from: 0, to: config.blocks }, part: "whole" }]),
        );
      const text = promptTokens(sizes, references);
      const grids = Array.from({ length: references }, () => grid);
      const { cos, sin } = ropeTables(text, [grid, ...grids], config);
      return {
        latent_tokens: noise(1, [1, sizes.side ** 2, config.patchWidth]),
        reference_tokens: noise(2, [1, references * sizes.side ** 2, config.patchWidth]),
        prompt_embeds: noise(3, [1, text, config.textWidth]),
        ...(isModulationFed ? await modulation() : timestep),
        rope_cos: cos,
        rope_sin: sin,
        ...(isLora ? { "lora_strength.0": float32([1], Float32Array.of(1)) } : {}),
      };
    },
  };
}

/** Prompt tokens by number of references. */
export function promptTokens({ promptTokens: first, promptTokensEach: each }: Sizes, references: number): number {
  return first + each * (references - 1);
}

async function vae({ files, sizes, device }: Opening, way: "encode" | "decode", type?: string): Promise<BuiltNetwork> {
  const checkpoint: Checkpoint = await readSafetensors(files.vae);
  const { latentChannels, spatialRatio } = vaeConfig(numbersOf(checkpoint));
  const graph = new Graph(`the VAE's ${way}r`);
  const build = way === "encode" ? buildVaeEncoder : buildVaeDecoder;
  const compute = computeType(device, "vae", type);
  build(graph, Weights.of(graph, checkpoint), { compute });
  const side = sizes.pixels / spatialRatio;
  const feeds = async (): Promise<Tensors> =>
    way === "encode"
      ? { image: noise(1, [1, 3, sizes.pixels, sizes.pixels]) }
      : { latent: noise(1, [1, latentChannels, side, side]) };
  return { graph, optimization: "full", compute, feeds };
}

// As the decode stage opens it; float outputs are for comparisons.
async function vaeToBytes(opening: Opening): Promise<BuiltNetwork> {
  const floats = await vae(opening, "decode");
  const graph = new Graph("the VAE's decoder to bytes");
  buildVaeDecoder(graph, Weights.of(graph, await readSafetensors(opening.files.vae)), {
    compute: floats.compute,
    quantization: "round",
  });
  return { ...floats, graph };
}

async function vision({ files, sizes, device }: Opening, type?: string): Promise<BuiltNetwork> {
  const checkpoint = await readSafetensors(files.textEncoder);
  const config = visionConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const graph = new Graph("the vision tower");
  const compute = computeType(device, "text-encoder", type);
  buildVisionTower(graph, Weights.of(graph, checkpoint), { config, compute });
  const values = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  const grid = { rows: sizes.patches, columns: sizes.patches };
  return {
    graph,
    optimization: "none",
    compute,
    feeds: async () => ({ pixel_values: noise(1, [sizes.patches ** 2, values]), ...visionGeometry(grid, config) }),
  };
}

/** Tokens of the template around a prompt, which the transformer does not see. */
const TEMPLATE_TOKENS = 64;

async function language({ files, sizes, device }: Opening, type?: string): Promise<BuiltNetwork> {
  const checkpoint = await readSafetensors(files.textEncoder);
  const config = languageConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const graph = new Graph("the language model");
  const compute = computeType(device, "text-encoder", type);
  buildLanguageModel(graph, Weights.of(graph, checkpoint), { config, compute });
  return {
    graph,
    optimization: "none",
    compute,
    async feeds(references) {
      const tokens = TEMPLATE_TOKENS + promptTokens(sizes, references);
      const row = Array.from({ length: tokens }, (_, position) => position);
      const { cos, sin } = multimodalRope([row, row, row], config);
      return { inputs_embeds: noise(1, [1, tokens, config.width]), rope_cos: cos, rope_sin: sin };
    },
  };
}

// A chain of products of square matrices. Two runs of different length have the same costs of feeds and outputs.
async function matrix({ sizes, device }: Opening, more: number): Promise<BuiltNetwork> {
  const graph = new Graph("products of matrices");
  const compute = computeType(device, "transformer");
  const square = [sizes.matrix, sizes.matrix];
  const right = graph.input("right", "f32", square).cast(compute);
  let left = graph.input("left", "f32", square).cast(compute);
  for (let product = 0; product <= more; product += 1) left = gemm(left, right);
  graph.output("corner", left.slice(0, 0, 1).cast("f32"));
  // Scaled so that products neither overflow nor vanish.
  const deviation = sizes.matrix ** -0.5;
  const entries = (seed: number) =>
    float32(
      square,
      randn(seed, sizes.matrix ** 2).map((value) => value * deviation),
    );
  return { graph, optimization: "none", compute, feeds: async () => ({ left: entries(1), right: entries(2) }) };
}
