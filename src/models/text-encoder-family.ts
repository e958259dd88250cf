// What the families of text encoders have in common: the numbers that stages need of their networks, and what is asked of each.
import type { Weights } from "../checkpoint/weights.js";
import type { Graph } from "../graph/graph.js";
import type { DType } from "../graph/types.js";
import type { Tensors } from "../std/tensor.js";
import type { ConfigJson } from "./config-json.js";

/** Name of a family, in messages and records. */
export type TextEncoderName = "Qwen2.5-VL" | "Qwen3-VL";

/** The numbers of a language model, of whichever family. */
export interface LanguageNumbers {
  readonly family: TextEncoderName;
  readonly layers: number;
  readonly width: number;
  readonly headDim: number;
  /** How many of the first layers take features of pictures behind them. */
  readonly pictureFeatures: number;
}

/** The numbers of a vision tower, of whichever family. */
export interface VisionNumbers {
  readonly family: TextEncoderName;
  readonly blocks: number;
  readonly width: number;
  readonly heads: number;
  /** Pixels along one side of a patch. */
  readonly patchSize: number;
  /** Frames in a patch; a picture is repeated. */
  readonly temporalPatchSize: number;
  readonly channels: number;
  /** Patches along one side of a merged token. */
  readonly mergeSize: number;
}

/** Lengths of the named dimensions of a language model's graph that reads so many tokens; features of pictures have a row for each at most, and one of zeros. */
export function languageLengths(tokens: number): Readonly<Record<string, number>> {
  return { tokens, "feature rows": tokens + 1 };
}

/** Consecutive layers or blocks, [from, to). */
export interface GraphLayers {
  readonly from: number;
  readonly to: number;
}

/** How a language model's graph is built. */
export interface LanguageBuild<Config extends LanguageNumbers = LanguageNumbers> {
  readonly config: Config;
  readonly compute: DType;
  /** The layers of this graph; all unless given. */
  readonly layers?: GraphLayers;
}

/** How a vision tower's graph is built. */
export interface VisionBuild<Config extends VisionNumbers = VisionNumbers> {
  readonly config: Config;
  readonly compute: DType;
  /** The blocks of this graph; all unless given. */
  readonly blocks?: GraphLayers;
}

/** Patches of a picture: rows and columns, both multiples of the merge size. */
export interface PatchGrid {
  readonly rows: number;
  readonly columns: number;
}

/** Sizes of references, as src/image/resize/size-plan.ts takes them. */
export interface ReferenceSizes {
  /** Pixels along a side of a latent cell. */
  readonly cell: number;
  readonly rules: {
    /** Pixels that every side is a multiple of. */
    readonly multiple: number;
    /** Latent cells along a side of a token of the transformer. */
    readonly tokenCells: number;
    /** Beyond, a picture is cropped and not stretched. */
    readonly mostStretch: number;
    readonly seesReferences: true;
  };
}

/** What a transformer wants of prompts and pictures, which differs with the text encoder that it was trained with. */
export interface PromptConventions {
  /** The template that prompts stand in (src/text/prompt-templates.ts). */
  readonly template: "qwen-image-edit-plus" | "qwen-image-2.1";
  /** The vocabulary that tokens are of (src/text/vocabulary.ts). */
  readonly vocabulary: "qwen2.5" | "qwen3";
  /** Whether the transformer sees the hidden states of image tokens; else its own tokens of the pictures take their places. */
  readonly keepsImageTokens: boolean;
  /** Mean and standard deviation that red, green and blue in 0..1 are normalised by. */
  readonly pixels: { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** What records of prompts say of the family: nothing of the first one, whose records stay what they were. */
  readonly recorded: { readonly family?: TextEncoderName };
  /** How the references are sized where the vision tower sees the very pixels that the VAE encodes; undefined where it sees pictures of its own size. */
  readonly references: ReferenceSizes | undefined;
}

/** A family of text encoders. Methods take what its own methods gave. */
export interface TextEncoderFamily {
  readonly name: TextEncoderName;
  readonly conventions: PromptConventions;
  /** Whether a file, under the published keys, holds a language model of this family. */
  isOf(w: Weights): boolean;
  /** Throws QEDIT_E_CHECKPOINT when the file has no such language model. */
  languageConfig(w: Weights, config: ConfigJson): LanguageNumbers;
  /** Throws QEDIT_E_CHECKPOINT when the file has no such vision tower. */
  visionConfig(w: Weights, config: ConfigJson): VisionNumbers;
  /** Adds layers of the language model. Its inputs are `inputs_embeds` and what languageFeeds and pictureFeeds give; output `hidden_states`. */
  buildLanguageModel(graph: Graph, w: Weights, options: LanguageBuild): void;
  /** Adds blocks of the vision tower. Its inputs are `pixel_values` and what visionFeeds gives; outputs `image_embeds` and the features of pictures. */
  buildVisionTower(graph: Graph, w: Weights, options: VisionBuild): void;
  /** What the language model takes besides embeddings, by the time, row and column of every token: three rows. */
  languageFeeds(positions: readonly (readonly number[])[], config: LanguageNumbers): Tensors;
  /** What the tower takes besides pixels. */
  visionFeeds(grid: PatchGrid, config: VisionNumbers): Tensors;
  /** Whether the graphs need not read a tensor of this name. */
  isIdle(name: string): boolean;
  /** Whether a module has a bias in every file of the family. */
  isBiased(module: string): boolean;
  /** The block that a tensor of the vision tower opens with. */
  visionBlockOf(name: string, config: VisionNumbers): number;
}
