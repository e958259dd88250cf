// The modulation of Qwen-Image-2.1: one linear of silu(timestep embedding) for all blocks, and one for the last normalisation. Text and references
// are modulated as at noise level 0. It is computed in the transformer's graph, or before by a graph of its own and fed to it.
// Mathematics: diffusers 0.42.1 transformer_qwenimage21.py.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { gather } from "../../graph/indexing.js";
import { silu, tanh } from "../../graph/operators.js";
import type { DType } from "../../graph/types.js";
import { concat, type NodeBuilder, type Value } from "../../graph/value.js";
import { float32 } from "../../std/tensor.js";
import { linear } from "../layers.js";
import type { BlockRange, TransformerModulation, TransformerPart } from "../transformer-family.js";
import type { TransformerConfig } from "./block-causal-config.js";

/** The timestep of the model runs 0..1000, sigma 0..1. */
const TIMESTEPS = 1000;
const MAX_PERIOD = 10000;

/** Of all blocks: 1 + scale and tanh(gate) of the attention, then of the feed-forward; behind them 1 + scale of the last normalisation. */
const BLOCK_VECTORS = 4;
const VECTORS = BLOCK_VECTORS + 1;

/** Each [width]: a layer reads `norm(x) · scale`, and `x + result · gate` goes on. */
export interface Modulation {
  /** 1 + scale */
  readonly scale: Value;
  /** tanh(gate) */
  readonly gate: Value;
}

/** The modulation of every block. */
export interface BlockModulation {
  readonly attention: Modulation;
  readonly feedForward: Modulation;
}

/** The modulation of a graph: of text and references, of the target, and of the last normalisation. */
export interface ModulationSource {
  readonly prefix: BlockModulation;
  readonly target: BlockModulation;
  /** 1 + scale */
  readonly final: Value;
}

/** The modulation computed in the transformer's graph; without `timestep` f32 [1], sigma, that of text and references alone. */
export function computedModulation(
  graph: NodeBuilder,
  w: Weights,
  { timestep, compute }: { timestep: Value | undefined; compute: DType },
): ModulationSource {
  const zero = graph.constant("f32", [1], [0]);
  const rows = vectorRows(timestep ? concat([timestep, zero], 0) : zero, w, { compute });
  const count = Number(rows[0]!.dim(0));
  const row = (index: number) => rows.map((each) => vectorOf(each, index));
  return sourceOf(row(0), row(count - 1));
}

/** The modulation at each of some noise levels, f32 [levels], computed once: that of text and references, and of the target at a level by its number, i64 [1]. */
export function steppedModulation(
  levels: Value,
  w: Weights,
  { compute }: { compute: DType },
): { readonly prefix: ModulationSource; at(step: Value): ModulationSource } {
  const timesteps = concat([levels, levels.graph.constant("f32", [1], [0])], 0);
  const rows = vectorRows(timesteps, w, { compute });
  const at = (row: Value) => rows.map((each) => vectorOf(gather(each, row), 0));
  const zero = at(levels.shapeValue());
  return { prefix: sourceOf(zero, zero), at: (step) => sourceOf(at(step), zero) };
}

/** Name of the input that carries the modulation of a graph that begins with block `from`. */
function modulationInput({ from }: BlockRange): string {
  return `modulation.${from}`;
}

/** The modulation as an input, f32 [vectors, width]: of a prefix its own, else that of the target and then that of the prefix. */
export function fedModulation(
  graph: Graph,
  {
    config,
    compute,
    blocks,
    part,
  }: { config: TransformerConfig; compute: DType; blocks: BlockRange; part: TransformerPart },
): ModulationSource {
  const count = rowsFed(part) * VECTORS;
  const width = config.heads * config.headDim;
  const fed = graph.input(modulationInput(blocks), "f32", [count, width]).cast(compute);
  const vectors = fed.reshape([count * width]).chunk(count, 0);
  return sourceOf(vectors.slice(0, VECTORS), vectors.slice(-VECTORS));
}

function rowsFed(part: TransformerPart): number {
  return part === "whole" ? 2 : 1;
}

/** The modulation where a graph of its own computes it: five vectors for each noise level, for all blocks. */
export function modulationOf(config: TransformerConfig): TransformerModulation {
  const width = config.heads * config.headDim;
  return {
    isModule: (module) => /^(?:modulation\.1|norm_out\.linear|time_text_embed\..+)$/.test(module),
    ranges: [{ from: 0, to: config.blocks }],
    hasZeroRow: true,
    storedVectors: () => VECTORS,
    build(graph, w, { compute }) {
      const levels = graph.input("timestep", "f32", ["steps"]);
      const timesteps = concat([levels, graph.constant("f32", [1], [0])], 0);
      graph.output("modulation", concat(vectorRows(timesteps, w, { compute }), 1).cast("f32"));
    },
    fed({ data, length }, row, { blocks, part }) {
      const rowOf = (index: number) => data.subarray(index * length, (index + 1) * length);
      const [target, zero] = [rowOf(row), rowOf(data.length / length - 1)];
      const fed = { whole: [target, zero], step: [target], prefix: [zero] }[part];
      const values = new Float32Array(fed.length * length);
      fed.forEach((each, index) => {
        values.set(each, index * length);
      });
      return { name: modulationInput(blocks), value: float32([fed.length * VECTORS, width], values) };
    },
  };
}

function sourceOf(target: readonly Value[], prefix: readonly Value[]): ModulationSource {
  const of = ([scale1, gate1, scale2, gate2]: readonly Value[]): BlockModulation => ({
    attention: { scale: scale1!, gate: gate1! },
    feedForward: { scale: scale2!, gate: gate2! },
  });
  return { prefix: of(prefix), target: of(target), final: target[BLOCK_VECTORS]! };
}

// The five vectors at some timesteps, each [steps, width].
function vectorRows(timesteps: Value, w: Weights, { compute }: { compute: DType }): Value[] {
  const temb = timestepEmbedding(timesteps, w.at("time_text_embed.timestep_embedder"), compute);
  const own = w.at("modulation.1");
  const [scale1, gate1, scale2, gate2] = linear(temb, own).chunk(BLOCK_VECTORS, 1) as [Value, Value, Value, Value];
  const final = linear(temb, w.at("norm_out.linear"));
  return own.scoped(() => [scale1.add(1), tanh(gate1), scale2.add(1), tanh(gate2), final.add(1)]);
}

function vectorOf(rows: Value, row: number): Value {
  const only = rows.dim(0) === 1 ? rows : rows.slice(0, row, row + 1);
  return only.reshape([only.dim(1)]);
}

// silu(MLP(sinusoids of 1000·sigma)), cosines first; frequencies and angles in float32 like the reference's.
function timestepEmbedding(timesteps: Value, w: Weights, compute: DType): Value {
  const half = w.shape("linear_1.weight")[1]! / 2;
  const step = Math.fround(-Math.log(MAX_PERIOD));
  const frequencies = Array.from({ length: half }, (_, k) => Math.exp(Math.fround(Math.fround(step * k) / half)));
  const sinusoids = w.scoped(() => {
    const times = timesteps.mul(TIMESTEPS).reshape([timesteps.dim(0), 1]);
    const angles = times.mul(timesteps.graph.constant("f32", [1, half], frequencies));
    return concat([angles.cos(), angles.sin()], 1).cast(compute);
  });
  const hidden = linear(sinusoids, w.at("linear_1"));
  const temb = linear(
    w.scoped(() => silu(hidden)),
    w.at("linear_2"),
  );
  return w.scoped(() => silu(temb));
}
