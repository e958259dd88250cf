// Shift, scale and gate of every block: two linears of silu(timestep embedding), a third of the transformer's parameters, which
// depend on sigma alone. They are computed in the transformer's graph, or before by a graph of their own and fed to it.
// Mathematics: ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers transformer_qwenimage.py (58eb52c0).
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gather } from "../../graph/indexing.js";
import { silu } from "../../graph/operators.js";
import type { DType } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import { linear } from "../layers.js";
import type { BlockRange, ModulationRows, StepCachePart } from "../transformer-family.js";
import type { TransformerConfig } from "./transformer-config.js";

/** The timestep of the model runs 0..1000, sigma 0..1. */
const TIMESTEPS = 1000;
const MAX_PERIOD = 10000;

/** Vectors of one linear: shift, 1 + scale and gate of the attention, then of the feed-forward. */
const VECTORS = 6;
/** Indices of the scales among them. */
const SCALES = [1, 4];
/** Of the last normalisation: 1 + scale, then shift. The other way round than in the blocks. */
const FINAL_VECTORS = 2;

/** Shift, scale and gate of one layer, each [width]: it reads `norm(x) · scale + shift`, and `x + result · gate` goes on. */
export interface Modulation {
  readonly shift: Value;
  /** 1 + scale */
  readonly scale: Value;
  readonly gate: Value;
}

/** The modulation of one stream of a block: of all its tokens, or of target and reference tokens. */
export interface StreamModulation {
  readonly attention: readonly Modulation[];
  readonly feedForward: readonly Modulation[];
}

/** The modulation of a block. */
export interface BlockModulation {
  readonly txt: StreamModulation;
  readonly img: StreamModulation;
}

/** The modulation of the last normalisation. */
export type FinalModulation = Pick<Modulation, "scale" | "shift">;

/** The modulation of a transformer's blocks, and of its last normalisation. */
export interface ModulationSource {
  readonly block: (index: number) => BlockModulation;
  readonly final: () => FinalModulation;
}

/** Whether a module of the transformer depends on sigma alone: the linears here and the embedding of the timestep. */
export function isModulationModule(module: string): boolean {
  return /^(?:transformer_blocks\.\d+\.(?:img|txt)_mod\.1|norm_out\.linear|time_text_embed\..+)$/.test(module);
}

/** How many timesteps modulate image tokens: sigma, and 0 where references are without noise. */
function imageRows({ referencesAtZero }: TransformerConfig): number {
  return referencesAtZero ? 2 : 1;
}

/** The modulation computed in the transformer's graph, at a timestep f32 [1], sigma. */
export function computedModulation(
  timestep: Value,
  w: Weights,
  { config, compute }: { config: TransformerConfig; compute: DType },
): ModulationSource {
  const imageTemb = timestepEmbedding(timestep, w.at("time_text_embed.timestep_embedder"), {
    compute,
    alsoZero: config.referencesAtZero,
  });
  const temb = config.referencesAtZero ? imageTemb.slice(0, 0, 1) : imageTemb;
  const stream = (at: Value, linearWeights: Weights) => modulationOf(projected(at, linearWeights), linearWeights);
  return {
    block(index) {
      const block = w.at("transformer_blocks").at(index);
      return { txt: stream(temb, block.at("txt_mod")), img: stream(imageTemb, block.at("img_mod")) };
    },
    final: () => finalModulation(finalProjected(temb, w), w),
  };
}

/** The modulation at several timesteps, computed in a graph before the loop over them. */
export interface SteppedModulation {
  /** The modulation at a timestep of the list; `step` is its number, i64 [1]. */
  at(step: Value): ModulationSource;
}

/** The modulation at timesteps f32 [steps], sigmas, of which each evaluation takes one. Their linears then run once for all of them. */
export function steppedModulation(
  timesteps: Value,
  w: Weights,
  { config, compute }: { config: TransformerConfig; compute: DType },
): SteppedModulation {
  const temb = timestepEmbedding(timesteps, w.at("time_text_embed.timestep_embedder"), {
    compute,
    alsoZero: config.referencesAtZero,
  });
  const blocks = Array.from({ length: config.blocks }, (_, index) => {
    const block = w.at("transformer_blocks").at(index);
    const stream = (linearWeights: Weights) => ({ linearWeights, rows: projected(temb, linearWeights) });
    return { img: stream(block.at("img_mod")), txt: stream(block.at("txt_mod")) };
  });
  const final = finalProjected(temb, w);
  // The row of timestep 0 stands behind those of the steps.
  const zeroRow = timesteps.shapeValue();
  return {
    at(step) {
      const imageStep = config.referencesAtZero ? concat([step, zeroRow], 0) : step;
      const stream = ({ linearWeights, rows }: { linearWeights: Weights; rows: Value }, places: Value) =>
        modulationOf(
          linearWeights.scoped(() => gather(rows, places)),
          linearWeights,
        );
      return {
        block(index) {
          const { img, txt } = blocks[index]!;
          return { txt: stream(txt, step), img: stream(img, imageStep) };
        },
        final: () => finalModulation(gather(final, step), w),
      };
    },
  };
}

/** Name of the input that carries the modulation of a graph that begins with block `from`. */
export function modulationInput({ from }: BlockRange): string {
  return `modulation.${from}`;
}

/** The modulation as an input, modulationInput: f32 [fedVectors, width], as fedModulationOf lays it out. */
export function fedModulation(
  graph: Graph,
  { compute, ...own }: FedBlocks & { readonly compute: DType },
): ModulationSource {
  const { config, blocks } = own;
  const count = fedVectors(own);
  const width = config.heads * config.headDim;
  const fed = graph.input(modulationInput(blocks), "f32", [count, width]).cast(compute);
  const vectors = fed.reshape([count * width]).chunk(count, 0);
  const streams = 1 + imageRows(config);
  const rowsOf = (block: number) =>
    Array.from({ length: streams }, (_, row) => {
      const start = ((block - blocks.from) * streams + row) * VECTORS;
      return vectors.slice(start, start + VECTORS);
    });
  return {
    block(index) {
      const rows = rowsOf(index);
      return { img: streamModulation(rows.slice(0, -1)), txt: streamModulation(rows.slice(-1)) };
    },
    final: () => ({ scale: vectors[count - 2]!, shift: vectors[count - 1]! }),
  };
}

/** The graph of some blocks, as far as its modulation goes. */
export interface FedBlocks {
  readonly config: TransformerConfig;
  readonly blocks: BlockRange;
  readonly stepCache?: StepCachePart | undefined;
}

/** How many vectors a graph is fed: of its blocks, then of the last normalisation where it has that. */
export function fedVectors({ config, blocks, stepCache }: FedBlocks): number {
  const hasFinal = blocks.to === config.blocks || stepCache === "head";
  return (blocks.to - blocks.from) * (1 + imageRows(config)) * VECTORS + (hasFinal ? FINAL_VECTORS : 0);
}

/**
 * Adds only the modulation of some blocks, at any number of noise levels. Input: `timestep` f32 [steps], sigmas. Output: `modulation`
 * f32 [rows, storedVectors · width], a row for each step, and one more for sigma 0 where references are without noise.
 */
export function buildModulation(
  graph: Graph,
  w: Weights,
  { config, compute, blocks }: { config: TransformerConfig; compute: DType; blocks: BlockRange },
): void {
  const timestep = graph.input("timestep", "f32", ["steps"]);
  const temb = timestepEmbedding(timestep, w.at("time_text_embed.timestep_embedder"), {
    compute,
    alsoZero: config.referencesAtZero,
  });
  const vectors: Value[] = [];
  for (let index = blocks.from; index < blocks.to; index += 1) {
    const block = w.at("transformer_blocks").at(index);
    for (const each of [block.at("img_mod"), block.at("txt_mod")])
      vectors.push(...blockVectors(projected(temb, each), each));
  }
  if (blocks.to === config.blocks) vectors.push(...finalVectors(finalProjected(temb, w), w));
  graph.output("modulation", concat(vectors, 1).cast("f32"));
}

/** How many vectors buildModulation gives for these blocks: of the image stream, then of the text, block by block, then the last. */
export function storedVectors(config: TransformerConfig, { from, to }: BlockRange): number {
  return (to - from) * 2 * VECTORS + (to === config.blocks ? FINAL_VECTORS : 0);
}

/** What a graph is fed at one row: [fedVectors · width]. */
export function fedModulationOf({ data, length }: ModulationRows, row: number, graph: FedBlocks): Float32Array {
  const { config, blocks } = graph;
  const width = config.heads * config.headDim;
  const stream = VECTORS * width;
  const rows = config.referencesAtZero ? [row, data.length / length - 1] : [row];
  const fed = new Float32Array(fedVectors(graph) * width);
  let at = 0;
  const take = (start: number, count: number) => {
    fed.set(data.subarray(start, start + count), at);
    at += count;
  };
  for (let block = blocks.from; block < blocks.to; block += 1) {
    const start = block * 2 * stream;
    for (const each of rows) take(each * length + start, stream);
    take(row * length + start + stream, stream);
  }
  if (at < fed.length) take((row + 1) * length - FINAL_VECTORS * width, FINAL_VECTORS * width);
  return fed;
}

// [rows, 6·width]
function projected(temb: Value, w: Weights): Value {
  return linear(temb, w.at("1"));
}

// Six times [rows, width].
function blockVectors(rows: Value, w: Weights): Value[] {
  const parts = rows.chunk(VECTORS, 1);
  return w.scoped(() => parts.map((part, index) => (SCALES.includes(index) ? part.add(1) : part)));
}

// Of each row of the projection.
function modulationOf(rows: Value, w: Weights): StreamModulation {
  const vectors = blockVectors(rows, w);
  return streamModulation(
    Array.from({ length: Number(rows.dim(0)) }, (_, row) => w.scoped(() => vectors.map((each) => vectorOf(each, row)))),
  );
}

// [rows, 2·width]
function finalProjected(temb: Value, w: Weights): Value {
  return linear(temb, w.at("norm_out.linear"));
}

function finalVectors(rows: Value, w: Weights): Value[] {
  const [scale, shift] = rows.chunk(FINAL_VECTORS, 1);
  return [w.at("norm_out").scoped(() => scale!.add(1)), shift!];
}

function finalModulation(rows: Value, w: Weights): FinalModulation {
  const [scale, shift] = finalVectors(rows, w).map((each) => vectorOf(each, 0));
  return { scale: scale!, shift: shift! };
}

function vectorOf(rows: Value, row: number): Value {
  const only = rows.dim(0) === 1 ? rows : rows.slice(0, row, row + 1);
  return only.reshape([only.dim(1)]);
}

function streamModulation(rows: readonly (readonly Value[])[]): StreamModulation {
  const of = ([shift, scale, gate]: readonly Value[]): Modulation => ({ shift: shift!, scale: scale!, gate: gate! });
  return { attention: rows.map((row) => of(row.slice(0, 3))), feedForward: rows.map((row) => of(row.slice(3))) };
}

// silu(MLP(sinusoids of 1000·sigma)), cosines first; angles in float32 like the reference's. One more row is for sigma 0.
function timestepEmbedding(
  timestep: Value,
  w: Weights,
  { compute, alsoZero }: { compute: DType; alsoZero: boolean },
): Value {
  const { graph } = timestep;
  const half = w.shape("linear_1.weight")[1]! / 2;
  const frequencies = Array.from({ length: half }, (_, k) => Math.exp((-Math.log(MAX_PERIOD) * k) / half));
  const angles = w.scoped(() => {
    const times = alsoZero ? concat([timestep, graph.constant("f32", [1], [0])], 0) : timestep;
    return graph
      .constant("f32", [1, half], frequencies)
      .mul(times.reshape([times.dim(0), 1]))
      .mul(TIMESTEPS);
  });
  const sinusoids = w.scoped(() => concat([angles.cos(), angles.sin()], 1).cast(compute));
  const hidden = linear(sinusoids, w.at("linear_1"));
  const temb = linear(
    w.scoped(() => silu(hidden)),
    w.at("linear_2"),
  );
  return w.scoped(() => silu(temb));
}
