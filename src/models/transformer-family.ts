// What the stages ask of a diffusion transformer, whatever family its file is of. A family is a folder here and a line in transformers.ts.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import type { Lengths } from "../graph/lengths.js";
import type { DType } from "../graph/types.js";
import type { Tensor, Tensors } from "../std/tensor.js";
import type { ConfigJson } from "./config-json.js";

/** Consecutive blocks [from, to) of a transformer; the last one brings the last normalisation with it. */
export interface BlockRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Which part of an evaluation a graph is. "whole": all of it. Where text and references do not depend on the noise level: "prefix", their keys and
 * values, and "step", the velocity of the target from these.
 */
export type TransformerPart = "whole" | "prefix" | "step";

/**
 * The graphs of a transformer with a step cache: "head" is its first block, which gives the velocity by itself where it can (see step-cache.ts); "tail"
 * are its other blocks, as they are run without one, and the last of them gives beside the velocity what they added.
 */
export type StepCachePart = "head" | "tail";

/** Tokens of a run: of the prompt, the target, and each reference. */
export interface TokenCounts {
  readonly text: number;
  readonly target: number;
  readonly references: readonly number[];
}

/** A prompt as a transformer reads it. */
export interface Prompt {
  /** Embeddings [1, tokens, width]. */
  readonly embeds: Tensor<"float32">;
  /** For each picture, how many of these tokens stand before it; left out where the text encoder says nothing of it. */
  readonly imagePositions?: readonly number[] | undefined;
}

/** What one prompt's evaluations have in common: the shape of the latent [1, channels, h, w], normalised reference latents, and the prompt. */
export interface PromptConditions {
  readonly shape: readonly number[];
  readonly references: readonly Tensor<"float32">[];
  readonly prompt: Prompt;
}

/** How a transformer's graph is built. */
export interface TransformerGraphOptions {
  readonly compute: DType;
  readonly part: TransformerPart;
  /** Number of references. */
  readonly references: number;
  /** The blocks of this graph, all unless given. */
  readonly blocks?: BlockRange;
  /** Whether shifts, scales and gates are inputs, and their linears no part of the graph. */
  readonly isModulationFed?: boolean;
  /** Which graph of a step cache it is; none unless given. */
  readonly stepCache?: StepCachePart;
}

/** A graph that is fed its modulation. */
export type FedGraph = Pick<TransformerGraphOptions, "part" | "stepCache"> & { readonly blocks: BlockRange };

/** The vectors of all blocks at several noise levels, as a graph of the modulation gave them. */
export interface ModulationRows {
  readonly data: Float32Array;
  /** Values of a row. */
  readonly length: number;
}

/** The modulation of a transformer, where a graph of its own computes it before the run. */
export interface TransformerModulation {
  /** Whether a module depends on the noise level alone. */
  isModule(module: string): boolean;
  /** Ranges of blocks whose linears are in memory at a time. */
  readonly ranges: readonly BlockRange[];
  /** Whether one more row, the last one, is for noise level 0. */
  readonly hasZeroRow: boolean;
  /** Vectors of one row, of these blocks. */
  storedVectors(blocks: BlockRange): number;
  /** Adds only the modulation: `timestep` f32 [levels] gives `modulation` f32 [rows, storedVectors · width]. */
  build(graph: Graph, w: Weights, options: { readonly compute: DType; readonly blocks: BlockRange }): void;
  /** The input of a graph that takes it, and what it is fed at one row, in memory of its own. */
  fed(rows: ModulationRows, row: number, graph: FedGraph): { readonly name: string; readonly value: Tensor<"float32"> };
}

/** A transformer of some family, with the sizes that its file has. */
export interface Transformer {
  /** Name of the family, for messages. */
  readonly family: string;
  readonly blocks: number;
  /** Width of its tokens. */
  readonly width: number;
  /** Width of a prompt embedding. */
  readonly textWidth: number;
  readonly latentChannels: number;
  /** Latent cells along one side of a token. */
  readonly patchSize: number;
  /** Whether its prompts say between which of their tokens pictures stand. */
  readonly placesImages: boolean;
  /** Whether it makes a picture of a prompt alone too. */
  readonly generates: boolean;
  /** How many pictures it was made to edit at once. */
  readonly mostPictures: number;
  /** What determines its graphs beside the file, as JSON. */
  readonly key: unknown;
  readonly modulation: TransformerModulation;
  /** Values of each prefix token that a block keeps for later steps; undefined where nothing can be kept. */
  readonly keptWidth: number | undefined;
  /** What a step cache compares behind the first block: a stream of tokens, `NAME.1`, and how many they are. */
  readonly compared: { readonly name: string; tokens(counts: TokenCounts): number };
  /** Lengths of the named dimensions of its graphs. */
  lengths(counts: TokenCounts): Lengths;
  /** Adds a part of one evaluation of the velocity. */
  build(graph: Graph, w: Weights, options: TransformerGraphOptions): void;
  /** Whether no graph reads a tensor of this name. */
  isIdle(name: string): boolean;
  /** Whether a module has a bias in every file of the family. */
  isBiased(module: string): boolean;
  /** Whether a tensor is empty or a marker, no weight. */
  isMarker(name: string): boolean;
  /** Throws QEDIT_E_ARTIFACT for conditions that it cannot sample, and QEDIT_E_USAGE. */
  refuse(conditions: PromptConditions): void;
  /** What is fed at every step under some conditions, beside the target and the noise level. */
  conditionFeeds(conditions: PromptConditions): Tensors;
  /** What a target latent is fed as. */
  targetFeeds(latent: Tensor<"float32">): Tensors;
  /** The latent of `shape` whose tokens are a velocity. */
  latentOf(velocity: Tensor<"float32">, shape: readonly number[]): Tensor<"float32">;
}

/** What a user may choose of a transformer; undefined: what it was made for. */
export interface TransformerChoices {
  readonly referenceMethod?: string | undefined;
}

/** A family of transformers. */
export interface TransformerFamily {
  readonly name: string;
  /** Whether a file is of it, by names of its tensors alone. */
  matches(w: Weights): boolean;
  /** Reads the sizes of a file; throws QEDIT_E_CHECKPOINT for what is not understood, QEDIT_E_USAGE for a choice that it does not have. */
  open(w: Weights, config: ConfigJson, choices: TransformerChoices): Transformer;
}
