// One run of the vision tower and one of the language model: pictures to tokens, token ids to embeddings.
import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { readRows } from "../checkpoint/read-tensor.js";
import type { Session } from "../engine/engine.js";
import type { VisionPatches } from "../image/patches.js";
import type { LanguageConfig, VisionConfig } from "../models/qwen2.5-vl/config.js";
import { multimodalRope } from "../models/qwen2.5-vl/language.js";
import { visionGeometry } from "../models/qwen2.5-vl/vision.js";
import { float32, type Tensor } from "../tensor.js";
import { positionIds } from "../text/positions.js";
import { dropIndex, expandImages } from "../text/prompt.js";
import { refuseNonFinite } from "./finite.js";
import { numbersOf } from "./network-file.js";

/** A picture as the language model takes it: its tokens [tokens, width], the patch grid they stand for, and patches along a token's side. */
export interface SeenPicture {
  readonly embeds: Tensor<"float32">;
  readonly grid: readonly [number, number, number];
  readonly merge: number;
}

/** Runs the vision tower over the patches of one picture; `name` is for messages. */
export async function embedPicture(session: Session, { pixelValues, grid }: VisionPatches, { config, name }: { config: VisionConfig; name: string }): Promise<SeenPicture> {
  const geometry = visionGeometry({ rows: grid[1], columns: grid[2] }, config);
  const { image_embeds: embeds } = await session.run({ pixel_values: pixelValues, ...geometry });
  refuseNonFinite(embeds!, `what the vision tower sees of ${name}`);
  return { embeds: embeds as Tensor<"float32">, grid, merge: config.mergeSize };
}

/** The language model, open, and the checkpoint whose token table it goes with. */
export interface OpenLanguageModel {
  readonly session: Session;
  readonly config: LanguageConfig;
  readonly checkpoint: Checkpoint;
}

/**
 * Embeds a templated prompt: token ids with one placeholder for each picture → hidden states [1, tokens, width] without those of
 * the template's head. Token embeddings are read from the file row by row; the table is never loaded.
 */
export async function embedPrompt(ids: readonly number[], seen: readonly SeenPicture[], { session, config, checkpoint }: OpenLanguageModel): Promise<Tensor<"float32">> {
  const { ids: expanded, images } = expandImages(ids, seen.map(({ embeds }) => embeds.shape[0]!));
  const table = await readRows(numbersOf(checkpoint).stored("model.embed_tokens.weight"), expanded);
  images.forEach(({ start }, index) => table.set(seen[index]!.embeds.data, start * config.width));
  const placed = images.map((span, index) => ({ ...span, grid: seen[index]!.grid }));
  const positions = positionIds({ length: expanded.length, images: placed, ...(seen[0] ? { merge: seen[0].merge } : {}) });
  const { cos, sin } = multimodalRope(positions, config);
  const inputs = float32([1, expanded.length, config.width], table);
  const { hidden_states: hidden } = await session.run({ inputs_embeds: inputs, rope_cos: cos, rope_sin: sin });
  refuseNonFinite(hidden!, "the embeddings of the prompt");
  // Pictures come after the dropped tokens, so the index holds for the expanded sequence too.
  const dropped = dropIndex(ids);
  return float32([1, expanded.length - dropped, config.width], (hidden as Tensor<"float32">).data.slice(dropped * config.width));
}
