// What the vision tower and the language model are fed, and what they give: pictures to tokens, token ids to embeddings.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { readRows } from "../../checkpoint/read-tensor.js";
import type { VisionPatches } from "../../image/patches.js";
import { multimodalRope } from "../../models/qwen2.5-vl/language.js";
import type { LanguageConfig, VisionConfig } from "../../models/qwen2.5-vl/text-encoder-config.js";
import { visionGeometry } from "../../models/qwen2.5-vl/vision.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import { positionIds } from "../../text/positions.js";
import { dropIndex, expandImages } from "../../text/prompt.js";
import { refuseNonFinite } from "../finite.js";
import { numbersOf } from "./model-handle.js";

/** A picture as the language model takes it: its tokens [tokens, width], the patch grid they stand for, and patches along a token's side. */
export interface SeenPicture {
  readonly embeds: Tensor<"float32">;
  readonly grid: readonly [number, number, number];
  readonly merge: number;
}

/** What the vision tower is fed of one picture. */
export function pictureFeeds({ pixelValues, grid }: VisionPatches, config: VisionConfig): Tensors {
  return { pixel_values: pixelValues, ...visionGeometry({ rows: grid[1], columns: grid[2] }, config) };
}

/** What the vision tower gave for the patches of one picture; `name` is for messages. */
export function seenPicture(
  { image_embeds: embeds }: Tensors,
  { grid }: VisionPatches,
  { config, name }: { config: VisionConfig; name: string },
): SeenPicture {
  refuseNonFinite(embeds!, `what the vision tower sees of ${name}`);
  return { embeds: embeds as Tensor<"float32">, grid, merge: config.mergeSize };
}

/** The language model, and the checkpoint whose token table it goes with. */
export interface LanguageModel {
  readonly config: LanguageConfig;
  readonly checkpoint: Checkpoint;
}

/** A templated prompt as the language model takes it. */
export interface PlacedPrompt {
  readonly feeds: Tensors;
  /** Tokens of the template's head, whose hidden states nobody reads. */
  readonly dropped: number;
}

/**
 * Reads a templated prompt in: token ids with one placeholder for each picture → embeddings of all tokens and their rotary angles.
 * Token embeddings are read from the file row by row; the table is never loaded.
 */
export async function placePrompt(
  ids: readonly number[],
  seen: readonly SeenPicture[],
  { config, checkpoint }: LanguageModel,
): Promise<PlacedPrompt> {
  const { ids: expanded, images } = expandImages(
    ids,
    seen.map(({ embeds }) => embeds.shape[0]!),
  );
  const table = await readRows(numbersOf(checkpoint).stored("model.embed_tokens.weight"), expanded);
  images.forEach(({ start }, index) => table.set(seen[index]!.embeds.data, start * config.width));
  const placed = images.map((span, index) => ({ ...span, grid: seen[index]!.grid }));
  const positions = positionIds({
    length: expanded.length,
    images: placed,
    ...(seen[0] ? { merge: seen[0].merge } : {}),
  });
  const { cos, sin } = multimodalRope(positions, config);
  // Pictures come after the dropped tokens, so the index holds for the expanded sequence too.
  return {
    feeds: { inputs_embeds: float32([1, expanded.length, config.width], table), rope_cos: cos, rope_sin: sin },
    dropped: dropIndex(ids),
  };
}

/** What the language model gave for a prompt, [1, tokens, width], without the tokens of the template's head. */
export function promptEmbeds({ hidden_states: hidden }: Tensors, { dropped }: PlacedPrompt): Tensor<"float32"> {
  refuseNonFinite(hidden!, "the embeddings of the prompt");
  const { shape, data } = hidden as Tensor<"float32">;
  const [, tokens, width] = shape as [number, number, number];
  return float32([1, tokens - dropped, width], data.slice(dropped * width));
}
