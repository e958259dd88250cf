// Runs networks of the published widths as the stages open them, each in several ways that must agree: whole, streamed or tiled in float32,
// and in the GPU's type with every operator's result rounded.

import { makeRepacked } from "../../src/catalog/local/repacked-files.js";
import type { BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { Weights } from "../../src/checkpoint/weights.js";
import type { Engine } from "../../src/engine/sessions/engine.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import type { DType } from "../../src/graph/types.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { multimodalRope } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "../../src/models/qwen2.5-vl/vision.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { type ModelHandle, numbersOf, openModel, readyModel } from "../../src/stages/networks/model-handle.js";
import { withLanguageModel } from "../../src/stages/networks/open-language-model.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { withVae } from "../../src/stages/networks/open-vae.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import type { StageContext } from "../../src/stages/stage.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { elementCount, float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import { positionIds } from "../../src/text/positions.js";
import type { FILES } from "../networks.js";

/** One way to run a network. */
export interface Way {
  readonly name: string;
  readonly compute: DType;
  /** Bytes that weights may take, so that the rest is streamed. */
  readonly vram?: number;
  /** Pixels along a tile of the VAE. */
  readonly tile?: number;
  /** Text that an event of the run must contain, to prove that it ran in this way. */
  readonly reported?: RegExp;
}

/** A network, its feeds, and the ways to run it. */
export interface FullWidth {
  readonly name: string;
  readonly file: keyof typeof FILES;
  /** The type of the blocks of its matrices; undefined: they are as published. */
  readonly quantised?: BlockTypeName;
  readonly ways: readonly Way[];
  /** Inputs for the PyTorch side, in its own format. */
  readonly inputs: (path: string) => Promise<Tensors>;
  /** The result in the format of the PyTorch side. */
  readonly run: (path: string, way: Way, context: StageContext) => Promise<Tensor<"float32">>;
}

const WHOLE: Way = { name: "whole", compute: "f32" };
const STREAMED: Way = {
  name: "streamed",
  compute: "f32",
  vram: 400e6,
  reported: /0 of 2 layers stay open, the others 1 at a time/,
};
const TILED: Way = { name: "in tiles", compute: "f32", tile: 128, reported: /coding tile 2 of/ };
const ROUNDED = "every result rounded";
/** Tokens of a latent along one side: a picture of 256². */
const SIDE = 32;
const PROMPT_TOKENS = 60;
const SIGMA = 0.75;
/** Patches of a picture as the vision tower sees it, larger than one window, and tokens around it. */
const PATCHES = [20, 28] as const;
const TOKENS_BEFORE = 20;
const TOKENS_AFTER = 16;

/** The networks in the order of an edit. */
export const FULL_WIDTH: readonly FullWidth[] = [
  vae("encoder"),
  vae("decoder"),
  {
    name: "vision tower, 2 blocks",
    file: "text-encoder-2",
    ways: [WHOLE, { name: ROUNDED, compute: "bf16" }],
    inputs: visionInputs,
    async run(path, { compute }, { engine }) {
      const file = await openModel(path, "textEncoder");
      const config = visionConfig(numbersOf(file.checkpoint), file.config);
      const graph = new Graph("the vision tower");
      buildVisionTower(graph, Weights.of(graph, file.checkpoint), { config, compute });
      const feeds = {
        pixel_values: (await visionInputs(path))["pixel_values"]!,
        ...visionGeometry({ rows: PATCHES[0], columns: PATCHES[1] }, config),
      };
      const { image_embeds: embeds } = await withSession(engine, await modelOf(graph, "none"), (session) =>
        session.run(feeds),
      );
      return embeds as Tensor<"float32">;
    },
  },
  {
    name: "language model, 2 layers",
    file: "text-encoder-2",
    ways: [WHOLE, STREAMED, { name: ROUNDED, compute: "bf16" }],
    inputs: languageInputs,
    async run(path, { compute }, context) {
      const file = await openModel(path, "textEncoder");
      const config = languageConfig(numbersOf(file.checkpoint), file.config);
      const { inputs_embeds: embeds } = await languageInputs(path);
      const { cos, sin } = multimodalRope(languagePositions(), config);
      const run = { file, config, compute, tokens: embeds!.shape[1]! };
      const [outputs] = await withLanguageModel(run, context, (model) =>
        model.run([{ inputs_embeds: embeds!, rope_cos: cos, rope_sin: sin }]),
      );
      return outputs!["hidden_states"] as Tensor<"float32">;
    },
  },
  transformer([WHOLE, STREAMED, { name: ROUNDED, compute: "bf16" }]),
  transformer([WHOLE, { ...STREAMED, vram: 600e6 }], "Q8_0"),
  transformer([WHOLE], "Q4_K"),
];

function transformer(ways: readonly Way[], quantised?: BlockTypeName): FullWidth {
  return {
    name: `transformer, 2 blocks${quantised === undefined ? "" : ` of ${quantised}`}`,
    file: "transformer-2",
    ways,
    ...(quantised !== undefined && { quantised }),
    inputs: transformerInputs,
    async run(path, { compute }, context) {
      const file = await openTransformer(path);
      const config = transformerConfig(numbersOf(file.checkpoint), file.config);
      const { latent, reference_1, reference_2, prompt_embeds } = (await transformerInputs(path)) as Record<
        string,
        Tensor<"float32">
      >;
      const conditions = {
        shape: latent!.shape,
        references: [reference_1!, reference_2!],
        prompts: { positive: { embeds: prompt_embeds! }, negative: undefined },
        network: qwenImage(config),
      };
      const { network } = conditions;
      const run = { file, network, compute, loras: [], sigmas: [SIGMA], conditions };
      return withTransformer(run, context, async (transformer) =>
        float32(latent!.shape, await velocityOf(transformer, conditions)(latent!.data, SIGMA, "positive")),
      );
    },
  };
}

function vae(half: "encoder" | "decoder"): FullWidth {
  const input = half === "encoder" ? "image" : "latent";
  const inputs = async () => ({
    [input]: half === "encoder" ? unit(noise(1, [1, 3, 8 * SIDE, 8 * SIDE])) : noise(1, [1, 16, SIDE, SIDE]),
  });
  return {
    name: `VAE ${half}`,
    file: "vae",
    ways: [WHOLE, TILED, { name: ROUNDED, compute: "f16" }],
    inputs,
    async run(path, { compute, tile }, context) {
      const file = await openModel(path, "vae");
      const given = (await inputs())[input]!;
      return withVae(half, { run: { file, compute, tile }, pixels: [8 * SIDE, 8 * SIDE] }, context, (run) =>
        run(given),
      );
    },
  };
}

/** Runs a network in one way; throws if it did not run in that way. */
export async function runIn(
  way: Way,
  { run }: FullWidth,
  { path, engine }: { path: string; engine: Engine },
): Promise<Tensor<"float32">> {
  const reported: string[] = [];
  const emit = (event: ProgressEvent) =>
    void reported.push(...(event.kind === "plan" ? event.lines : event.kind === "activity" ? [event.text] : []));
  const result = await run(path, way, { engine, emit, signal: new AbortController().signal, vram: way.vram });
  if (way.reported && !reported.some((line) => way.reported!.test(line)))
    throw new Error(`The network was not run ${way.name}: ${reported.join("; ")}`);
  return result;
}

function noise(seed: number, shape: readonly number[]): Tensor<"float32"> {
  return float32(shape, randn(seed, elementCount(shape)));
}

// In 0..1, like pictures.
function unit({ shape, data }: Tensor<"float32">): Tensor<"float32"> {
  return float32(
    shape,
    data.map((value) => Math.min(Math.max(0.5 + value / 4, 0), 1)),
  );
}

async function visionInputs(path: string): Promise<Tensors> {
  const file = await openModel(path, "textEncoder");
  const { channels, temporalPatchSize, patchSize } = visionConfig(numbersOf(file.checkpoint), file.config);
  const [rows, columns] = PATCHES;
  return {
    pixel_values: noise(1, [rows * columns, channels * temporalPatchSize * patchSize ** 2]),
    image_grid_thw: float32([1, 3], Float32Array.of(1, rows, columns)),
  };
}

// Text, the tokens of one picture, text.
function languagePositions(): number[][] {
  const [rows, columns] = PATCHES;
  const count = (rows * columns) / 4;
  return positionIds({
    length: TOKENS_BEFORE + count + TOKENS_AFTER,
    images: [{ start: TOKENS_BEFORE, count, grid: [1, rows, columns] }],
  });
}

async function languageInputs(path: string): Promise<Tensors> {
  const file = await openModel(path, "textEncoder");
  const { width } = languageConfig(numbersOf(file.checkpoint), file.config);
  const positions = languagePositions();
  const tokens = positions[0]!.length;
  return {
    inputs_embeds: noise(1, [1, tokens, width]),
    position_ids: float32([3, tokens], Float32Array.from(positions.flat())),
  };
}

// A target of 256 x 192 pixels and two references of other shapes.
async function transformerInputs(path: string): Promise<Tensors> {
  const file = await openTransformer(path);
  const { textWidth } = transformerConfig(numbersOf(file.checkpoint), file.config);
  return {
    latent: noise(1, [1, 16, SIDE, 24]),
    reference_1: noise(2, [1, 16, 24, SIDE]),
    reference_2: noise(3, [1, 16, 12, 16]),
    prompt_embeds: noise(4, [1, PROMPT_TOKENS, textWidth]),
    timestep: float32([1], Float32Array.of(SIGMA)),
  };
}

// Blocks of GGUF are repacked first.
async function openTransformer(path: string): Promise<ModelHandle> {
  return readyModel(await openModel(path, "transformer"), (file) => makeRepacked(file, { emit() {} }));
}
