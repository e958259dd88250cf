// The Qwen-Image-Edit diffusion transformer: dual-stream blocks with joint attention over text, target and reference tokens.
// Ported from the mathematics of ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84) and diffusers
// transformer_qwenimage.py (58eb52c0). One call of this graph, or of its parts in order, is one evaluation of the velocity.
import type { Weights } from "../../checkpoint/weights.js";
import type { Graph } from "../../graph/graph.js";
import { addDims, type DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import { addReuse, before, type FirstBlock, TAIL_RESIDUAL } from "../step-cache.js";
import type { BlockRange, StepCachePart } from "../transformer-family.js";
import {
  embedImages,
  embedTokens,
  joinStreams,
  type Network,
  type Rope,
  type Shared,
  type Tokens,
  targetTokens,
  throughBlocks,
  throughLastBlock,
  velocityOf,
} from "./dual-stream-blocks.js";
import { computedModulation, fedModulation, type ModulationSource } from "./modulation.js";
import type { TransformerConfig } from "./transformer-config.js";

/** How a transformer's graph is built. */
export interface TransformerOptions {
  readonly config: TransformerConfig;
  readonly compute: DType;
  /** The blocks of this graph, all unless given. */
  readonly blocks?: BlockRange;
  /** Whether shifts, scales and gates are inputs, and their linears no part of the graph. */
  readonly isModulationFed?: boolean;
  /** Which graph of a step cache it is; none unless given. */
  readonly stepCache?: StepCachePart;
}

/**
 * Adds one evaluation of the velocity (noise minus data). Inputs, all f32: `latent_tokens` [1, target, 64] and
 * `reference_tokens` [1, reference, 64] (2×2 patches, normalised latents), `prompt_embeds` [1, text, 3584], `timestep` [1]
 * (sigma, 0..1) or `modulation.0` (see fedModulation), `rope_cos` and `rope_sin` [1, text+target+reference, head/2], text first.
 * Output: `velocity` [1, target, 64]. All arithmetic is in `compute`. A graph that begins with a later
 * block N takes `txt.N` [text, width] and `img.N` [target+reference, width] instead of the prompt; one that ends before block N gives them.
 * A graph "head" of a step cache takes `img.1` and `latent_tokens` as they were before too, and what addReuse adds; the last graph "tail" takes `img.1`.
 */
export function buildTransformer(graph: Graph, w: Weights, options: TransformerOptions): void {
  const { config, compute, blocks = { from: 0, to: config.blocks }, isModulationFed = false, stepCache } = options;
  const input = (name: string, length: string, width: number) =>
    graph.input(name, "f32", [1, length, width]).cast(compute);
  const target = input("latent_tokens", "target", config.patchWidth);
  const reference = input("reference_tokens", "reference", config.patchWidth);
  const first =
    blocks.from === 0
      ? embedTokens([target, reference], input("prompt_embeds", "text", config.textWidth), { w, config })
      : tokensBefore(blocks.from, { graph, config, compute });
  // Text first, as in the joint attention.
  const tokens = addDims(first.txt.dim(0), first.img.dim(0));
  const angles = (name: string) => graph.input(name, "f32", [1, tokens, config.headDim / 2]).cast(compute);
  const shared: Shared = {
    config,
    images: [target, reference],
    rope: { cos: angles("rope_cos"), sin: angles("rope_sin") },
  };
  const modulation = isModulationFed
    ? fedModulation(graph, { config, compute, blocks, stepCache })
    : computedModulation(graph.input("timestep", "f32", [1]), w, { config, compute });

  const last = Math.min(blocks.to, config.blocks - 1);
  const network = { w, modulation, shared };
  const streams = throughBlocks(first, { from: blocks.from, to: last }, network);
  if (blocks.to === config.blocks) {
    const behind = throughLastBlock(streams, network);
    graph.output("velocity", velocityOf(behind, modulation.final(), network));
    if (stepCache === undefined) return;
    const { img } = blocks.from === 1 ? first : tokensBefore(1, { graph, config, compute });
    graph.output(TAIL_RESIDUAL, behind.sub(targetTokens(img, shared)).cast("f32"));
    return;
  }
  const behind = joinStreams(streams);
  if (stepCache === "head") {
    addReuse(graph, firstBlock(behind, { embedded: first.img, network: { graph, compute, ...network } }));
    return;
  }
  for (const name of ["txt", "img"] as const) graph.output(`${name}.${blocks.to}`, behind[name].cast("f32"));
}

/** What one evaluation of the velocity is computed from, all in the type of the arithmetic. */
export interface TransformerInputs {
  /** [1, target, 64] */
  readonly target: Value;
  /** [1, reference, 64] */
  readonly reference: Value;
  /** [1, text, 3584] */
  readonly prompt: Value;
  /** [1, text+target+reference, head/2], text first. */
  readonly rope: Rope;
  readonly modulation: ModulationSource;
}

/** One evaluation of the velocity as buildTransformer adds it, from values that a graph has already: f32 [1, target, 64]. */
export function transformerVelocity(
  { target, reference, prompt, rope, modulation }: TransformerInputs,
  w: Weights,
  config: TransformerConfig,
): Value {
  const first = embedTokens([target, reference], prompt, { w, config });
  const network = { w, modulation, shared: { config, images: [target, reference], rope } } as const;
  const behind = throughLastBlock(throughBlocks(first, { from: 0, to: config.blocks - 1 }, network), network);
  return velocityOf(behind, modulation.final(), network);
}

/** Whether a transformer reads no tensor of this name: the last block computes no queries and no results of the text. */
export function isIdleInLastBlock(name: string, { blocks }: TransformerConfig): boolean {
  const prefix = `transformer_blocks.${blocks - 1}.`;
  return (
    name.startsWith(prefix) &&
    /^(?:attn\.(?:add_q_proj|norm_added_q|to_add_out)|txt_mlp)\./.test(name.slice(prefix.length))
  );
}

// What the body of a choice reads is made before: the final modulation, and the strengths of adapters, which are inputs.
function firstBlock(
  { txt, img }: Tokens,
  {
    embedded,
    network: { graph, compute, ...network },
  }: { embedded: Value; network: Network & { readonly graph: Graph; readonly compute: DType } },
): FirstBlock {
  const { w, modulation, shared } = network;
  const [target, reference] = shared.images;
  const imgBefore = graph.input(before("img.1"), "f32", img.shape);
  const latentsBefore = graph.input(before("latent_tokens"), "f32", target.shape);
  const tail = graph.input(TAIL_RESIDUAL, "f32", ["target", img.dim(1)]);
  const final = modulation.final();
  w.at("proj_out").adapters();
  const residual = (behind: Value, of: Value) => behind.cast("f32").sub(of.cast("f32"));
  return {
    streams: { "txt.1": txt, "img.1": img },
    residuals: () => ({
      now: residual(img, embedded),
      before: residual(imgBefore, embedImages([latentsBefore.cast(compute), reference], w)),
    }),
    velocity: () => velocityOf(targetTokens(img, shared).add(tail.cast(compute)), final, network),
    channels: shared.config.patchWidth,
  };
}

// Inputs of a graph that begins with a later block, as the graph before gives them.
function tokensBefore(
  block: number,
  { graph, config, compute }: { graph: Graph; config: TransformerConfig; compute: DType },
): Tokens {
  const stream = (name: string, length: string) =>
    graph.input(`${name}.${block}`, "f32", [length, config.heads * config.headDim]).cast(compute);
  return { txt: stream("txt", "text"), img: stream("img", "target+reference") };
}
