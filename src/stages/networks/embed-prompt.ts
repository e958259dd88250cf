// Feeds and outputs of the vision tower and the language model: pictures to tokens, token ids to embeddings.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { readScaledRows } from "../../checkpoint/scaled-rows.js";
import type { VisionPatches } from "../../image/patches.js";
import type { LanguageNumbers, VisionNumbers } from "../../models/text-encoder-family.js";
import { textEncoderNamed } from "../../models/text-encoders.js";
import { param, QeditError } from "../../std/errors.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import { positionIds } from "../../text/positions.js";
import { dropIndex, expandImages, seenTokens } from "../../text/prompt.js";
import { TOKEN } from "../../text/vocabulary.js";
import { refuseNonFinite } from "../finite.js";
import { numbersOf } from "./model-handle.js";

/** A picture for the language model: its embeddings [tokens, width], its grid [1, rows, columns] in patches, and `merge` patches per side of a token. */
export interface EmbeddedPicture {
  readonly embeds: Tensor<"float32">;
  readonly grid: readonly [number, number, number];
  readonly merge: number;
}

/** The vision tower's feeds for one picture. */
export function pictureFeeds({ pixelValues, grid }: VisionPatches, config: VisionNumbers): Tensors {
  const geometry = textEncoderNamed(config.family).visionFeeds({ rows: grid[1], columns: grid[2] }, config);
  return { pixel_values: pixelValues, ...geometry };
}

/** The vision tower's outputs for one picture. Throws QEDIT_E_BAD_OUTPUT for NaN or infinity; `name` is for the message. */
export function embeddedPicture(
  { image_embeds: embeds }: Tensors,
  { grid }: VisionPatches,
  { config, name }: { config: VisionNumbers; name: string },
): EmbeddedPicture {
  refuseNonFinite(embeds!, `what the vision tower sees of ${name}`);
  return { embeds: embeds as Tensor<"float32">, grid, merge: config.mergeSize };
}

/** The language model's config, and the checkpoint that holds its token embeddings. */
export interface LanguageModel {
  readonly config: LanguageNumbers;
  readonly checkpoint: Checkpoint;
}

/** Throws QEDIT_E_CHECKPOINT for a text encoder without embeddings of the tokens of the prompt template. */
export function refuseSmallVocabulary(checkpoint: Checkpoint): void {
  const [rows] = numbersOf(checkpoint).shape("model.embed_tokens.weight") as [number];
  if (rows > TOKEN.imagePad) return;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${checkpoint.file} as text encoder: its vocabulary has ${rows} tokens, the prompt needs ${TOKEN.imagePad + 1}`,
    {
      hint: `Give a Qwen2.5-VL text encoder: ${param("text_encoder", "qwen_2.5_vl_7b_fp8_scaled.safetensors")}`,
    },
  );
}

/** A templated prompt as feeds of the language model. */
export interface EmbeddedPrompt {
  readonly feeds: Tensors;
  /** Leading tokens of the template whose hidden states are dropped. */
  readonly dropped: number;
}

/**
 * Embeds a templated prompt: token ids with one placeholder per picture → embeddings of all tokens, and their rotary angles.
 * Token embeddings are read from the file row by row; the whole table is never in memory. Throws QEDIT_E_USAGE when no token is seen.
 */
export async function embedPrompt(
  ids: readonly number[],
  seen: readonly EmbeddedPicture[],
  { config, checkpoint }: LanguageModel,
): Promise<EmbeddedPrompt> {
  const {
    ids: expanded,
    images,
    dropped,
  } = promptTokens(
    ids,
    seen.map(({ embeds }) => embeds.shape[0]!),
  );
  const table = await readScaledRows(checkpoint, "model.embed_tokens", expanded);
  images.forEach(({ start }, index) => table.set(seen[index]!.embeds.data, start * config.width));
  const placed = images.map((span, index) => ({ ...span, grid: seen[index]!.grid }));
  const positions = positionIds({
    length: expanded.length,
    images: placed,
    ...(seen[0] ? { merge: seen[0].merge } : {}),
  });
  // Pictures come after the dropped tokens, so the index is the same in the expanded sequence.
  return {
    feeds: {
      inputs_embeds: float32([1, expanded.length, config.width], table),
      ...textEncoderNamed(config.family).languageFeeds(positions, config),
    },
    dropped,
  };
}

/** The tokens of a templated prompt that the language model reads, with so many for each picture. Throws QEDIT_E_USAGE when no token is seen. */
export function promptTokens(
  ids: readonly number[],
  counts: readonly number[],
): ReturnType<typeof expandImages> & Pick<EmbeddedPrompt, "dropped"> {
  const dropped = dropIndex(ids);
  const tokens = seenTokens(ids);
  if (tokens.length <= dropped)
    throw new QeditError("QEDIT_E_USAGE", "Cannot encode a prompt that begins with <|endoftext|>, without a picture", {
      hint: `Say what to do: ${param("prompt", "TEXT")}`,
      parameter: "prompt",
    });
  return { ...expandImages(tokens, counts), dropped };
}

/** The hidden states of a prompt [1, tokens, width] without the dropped tokens. Throws QEDIT_E_BAD_OUTPUT for NaN or infinity. */
export function promptEmbeds({ hidden_states: hidden }: Tensors, { dropped }: EmbeddedPrompt): Tensor<"float32"> {
  refuseNonFinite(hidden!, "the embeddings of the prompt");
  const { shape, data } = hidden as Tensor<"float32">;
  const [, tokens, width] = shape as [number, number, number];
  return float32([1, tokens - dropped, width], data.slice(dropped * width));
}
