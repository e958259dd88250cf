// What the exported model of prompts asks of a text encoder, whatever family it is of.
import type { Weights } from "../../checkpoint/weights.js";
import type { DType } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { VisionNumbers } from "../../models/text-encoder-family.js";

/** The grid of one picture: i64 [1], in patches. */
export interface OneGrid {
  readonly rows: Value;
  readonly columns: Value;
  readonly count: Value;
  /** Name of the count. */
  readonly length: string | number;
}

/** One picture in the type of the arithmetic, a row of pixels for each patch. */
export interface OnePicture {
  readonly pixels: Value;
  readonly grid: OneGrid;
}

/** The tokens of a prompt as the language model reads them, in the type of the arithmetic. */
export interface ReadTokens {
  /** [tokens, width] */
  readonly embeds: Value;
  /** What is added behind each of the first layers, [tokens, width]. */
  readonly features: readonly Value[];
  /** Time, row and column of each, i64 [tokens]. */
  readonly positions: readonly [Value, Value, Value];
}

/** The networks of a text encoder inside a graph. */
export interface ExportedNetworks {
  readonly vision: VisionNumbers;
  /** Width of the language model. */
  readonly width: number;
  /** How many of its first layers take features of pictures. */
  readonly features: number;
  /** The embeddings of a picture, and its features for each of those layers, f32 [tokens, width]. */
  see(picture: OnePicture, w: Weights): readonly Value[];
  /** Hidden states f32 [1, tokens, width]. */
  read(tokens: ReadTokens, w: Weights, compute: DType): Value;
}
