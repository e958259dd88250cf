// Compares the tiny networks on the measured device with the outputs of the reference implementations (fixtures/tiny/golden).
import { join } from "node:path";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { computeType, type Device, type Network } from "../../src/engine/providers.js";
import { type Engine, modelOf, type Optimization, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import type { DType } from "../../src/graph/types.js";
import { type Grid, latentGrid, patchify, ropeTables, unpatchify } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { buildLanguageModel, multimodalRope } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { buildVisionTower, visionGeometry } from "../../src/models/qwen2.5-vl/vision.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../src/models/vaes.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { float32, type Tensor, type Tensors } from "../../src/std/tensor.js";
import {
  addBiasInGelu,
  addGatedBiasInLayerNorm,
  addInLayerNorm,
  type GraphForm,
  multiplyFp8,
  widenVectors,
} from "../graph-forms.js";
import { repositoryRoot } from "./files.js";

/** One comparison: the largest error relative to the reference's largest magnitude. */
export interface ParityRow {
  readonly network: string;
  readonly compute: DType;
  readonly error: number;
  readonly tolerance: number;
}

/** Largest errors by compute type: roundings of 2^-11 (float16, and TF32 inside CUDA's float32 products) and 2^-9 (bfloat16) at some ten to forty places. */
const TOLERANCE: Readonly<Record<Device["provider"], Readonly<Partial<Record<DType, number>>>>> = {
  cpu: { f32: 1e-4 },
  cuda: { f32: 6e-3, f16: 6e-3, bf16: 3e-2 },
};

interface Case {
  readonly name: string;
  readonly network: Network;
  readonly file: string;
  readonly optimization: Optimization;
  readonly forms: readonly GraphForm[];
  readonly build: (graph: Graph, w: Weights, at: { checkpoint: Checkpoint; compute: DType }) => void;
  /** Feeds and the expected output from the golden file. */
  readonly pairs: (golden: Golden, checkpoint: Checkpoint) => Promise<readonly Pair[]>;
}

interface Pair {
  readonly feeds: Tensors;
  readonly output: string;
  readonly wanted: Tensor<"float32">;
  readonly shaped?: (output: Tensor<"float32">) => Tensor<"float32">;
}

/** Runs every case on an engine, in the types of its device; errors are reported, not thrown. */
export async function tinyParity(engine: Engine): Promise<ParityRow[]> {
  const rows: ParityRow[] = [];
  for (const each of CASES) rows.push(await measure(each, engine));
  return rows;
}

async function measure(
  { name, network, file, optimization, forms, build, pairs }: Case,
  engine: Engine,
): Promise<ParityRow> {
  const checkpoint = await readSafetensors(tiny(`${file}.safetensors`));
  const compute = computeType(engine.device, network);
  const graph = new Graph(name);
  build(graph, Weights.of(graph, checkpoint), { checkpoint, compute });
  for (const form of forms) form(graph);
  const errors = await withSession(engine, await modelOf(graph, optimization), async (session) => {
    const all: number[] = [];
    for (const { feeds, output, wanted, shaped = (tensor: Tensor<"float32">) => tensor } of await pairs(
      await readGolden(file),
      checkpoint,
    )) {
      const found = shaped((await session.run(feeds))[output] as Tensor<"float32">);
      all.push(relativeError(found.data, wanted.data));
    }
    return all;
  });
  return { network: name, compute, error: Math.max(...errors), tolerance: TOLERANCE[engine.device.provider][compute]! };
}

/** max |a − b| / max |b|; infinite for NaN. */
export function relativeError(found: Float32Array, wanted: Float32Array): number {
  let [error, scale] = [0, 0];
  for (let index = 0; index < wanted.length; index += 1) {
    const difference = Math.abs(found[index]! - wanted[index]!);
    error = Number.isNaN(difference) ? Infinity : Math.max(error, difference);
    scale = Math.max(scale, Math.abs(wanted[index]!));
  }
  return error / scale;
}

type Golden = (name: string) => Tensor<"float32">;

async function readGolden(file: string): Promise<Golden> {
  const { tensors } = await readSafetensors(tiny(`golden/${file}.safetensors`));
  const read = new Map<string, Tensor<"float32">>();
  for (const [name, stored] of tensors) read.set(name, float32(stored.shape, await readTensor(stored)));
  return (name) => {
    const tensor = read.get(name);
    if (!tensor) throw new Error(`internal: no tensor "${name}" in golden ${file}`);
    return tensor;
  };
}

function tiny(path: string): string {
  return join(repositoryRoot(), "fixtures/tiny", path);
}

function unit({ shape, data }: Tensor<"float32">): Tensor<"float32"> {
  return float32(
    shape,
    data.map((value) => (value + 1) / 2),
  );
}

const TRANSFORMERS = ["transformer", "transformer-scaled-fp8", "transformer-2511"];

const OTHER_FORMS = {
  title: " in the other forms",
  forms: [widenVectors, multiplyFp8, addInLayerNorm, addGatedBiasInLayerNorm, addBiasInGelu],
};

const CASES: readonly Case[] = [
  {
    name: "vae encode",
    network: "vae",
    file: "vae",
    optimization: "full",
    forms: [],
    build: (graph, w, { compute }) => buildVaeEncoder(graph, w, { compute }),
    pairs: async (golden) =>
      ["40x56", "64x48"].map((size) => ({
        feeds: { image: unit(golden(`${size}.pixels`)) },
        output: "latent",
        wanted: golden(`${size}.mean`),
      })),
  },
  {
    name: "vae decode",
    network: "vae",
    file: "vae",
    optimization: "full",
    forms: [],
    build: (graph, w, { compute }) => buildVaeDecoder(graph, w, { compute }),
    pairs: async (golden) =>
      ["40x56", "64x48"].map((size) => ({
        feeds: { latent: golden(`${size}.latent`) },
        output: "image",
        wanted: unit(golden(`${size}.image`)),
      })),
  },
  {
    name: "vision",
    network: "text-encoder",
    file: "text-encoder",
    optimization: "none",
    forms: [],
    build: (graph, w, { checkpoint, compute }) =>
      buildVisionTower(graph, w, {
        config: visionConfig(numbersOf(checkpoint), checkpointConfig(checkpoint)),
        compute,
      }),
    pairs: visionPairs,
  },
  {
    name: "language",
    network: "text-encoder",
    file: "text-encoder",
    optimization: "none",
    forms: [],
    build: (graph, w, { checkpoint, compute }) =>
      buildLanguageModel(graph, w, {
        config: languageConfig(numbersOf(checkpoint), checkpointConfig(checkpoint)),
        compute,
      }),
    pairs: async (golden, checkpoint) =>
      ["images0", "images1", "images2", "images3"].map((images) => languagePair(golden, images, checkpoint)),
  },
  ...[{ title: "", forms: [] }, OTHER_FORMS].flatMap(({ title, forms }) =>
    TRANSFORMERS.map(
      (file): Case => ({
        name: `${file}${title}`,
        forms,
        network: "transformer",
        file,
        optimization: "none",
        build: (graph, w, { checkpoint, compute }) =>
          buildTransformer(graph, w, { config: configOf(checkpoint), compute }),
        pairs: async (golden, checkpoint) =>
          runsOf(file, forms).map((each) => transformerPair(golden, each, checkpoint)),
      }),
    ),
  ),
];

// Where references are modulated apart, none is a normalisation of no rows, which CUDA may refuse of SkipLayerNormalization; no edit is without.
function runsOf(file: string, forms: readonly GraphForm[]): string[] {
  const runs = ["refs1", "refs2", "odd"];
  return file === "transformer-2511" && forms.includes(addInLayerNorm) ? runs : ["refs0", ...runs];
}

async function visionPairs(golden: Golden, checkpoint: Checkpoint): Promise<Pair[]> {
  const config = visionConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const inputs = await readGolden("vision-inputs");
  return ["8x12", "12x20", "10x6"].map((size) => {
    const [rows, columns] = size.split("x").map(Number) as [number, number];
    const feeds = { pixel_values: inputs(`${size}.pixel_values`), ...visionGeometry({ rows, columns }, config) };
    return { feeds, output: "image_embeds", wanted: golden(`${size}.image_embeds`) };
  });
}

function languagePair(golden: Golden, images: string, checkpoint: Checkpoint): Pair {
  const positions = golden(`${images}.position_ids`);
  const length = positions.shape[1]!;
  const rows = [0, 1, 2].map((row) => [...positions.data.subarray(row * length, (row + 1) * length)]);
  const { cos, sin } = multimodalRope(rows, languageConfig(numbersOf(checkpoint), checkpointConfig(checkpoint)));
  return {
    feeds: { inputs_embeds: golden(`${images}.inputs_embeds`), rope_cos: cos, rope_sin: sin },
    output: "hidden_states",
    wanted: golden(`${images}.hidden`),
  };
}

function configOf(checkpoint: Checkpoint) {
  return transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
}

function transformerPair(golden: Golden, each: string, checkpoint: Checkpoint): Pair {
  const config = configOf(checkpoint);
  const latent = golden(`${each}.latent`);
  const references = Array.from({ length: { refs0: 0, refs1: 1, refs2: 2, odd: 2 }[each]! }, (_, index) =>
    golden(`${each}.reference_${index + 1}`),
  );
  const prompt = golden(`${each}.prompt_embeds`);
  const grids: [Grid, ...Grid[]] = [
    latentGrid(latent, config.patchSize),
    ...references.map((reference) => latentGrid(reference, config.patchSize)),
  ];
  const { cos, sin } = ropeTables(prompt.shape[1]!, grids, config);
  const feeds = {
    latent_tokens: patchify([latent], config),
    reference_tokens: patchify(references, config),
    prompt_embeds: prompt,
    timestep: golden(`${each}.timestep`),
    rope_cos: cos,
    rope_sin: sin,
  };
  return {
    feeds,
    output: "velocity",
    wanted: golden(`${each}.velocity`),
    shaped: (tokens) => unpatchify(tokens, latent.shape, config),
  };
}
