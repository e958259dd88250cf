// Feeds and outputs of the vision tower and the language model: pictures to tokens, token ids to embeddings.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { readScaledRows } from "../../checkpoint/scaled-rows.js";
import type { VisionPatches } from "../../image/patches.js";
import type { LanguageNumbers, TextEncoderName, VisionNumbers } from "../../models/text-encoder-family.js";
import { textEncoderNamed } from "../../models/text-encoders.js";
import { param, QeditError } from "../../std/errors.js";
import { float32, type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import { positionIds } from "../../text/positions.js";
import { expandImages, type ImageSpan, seenTokens } from "../../text/prompt.js";
import { PROMPT_TEMPLATES, type PromptTemplate } from "../../text/prompt-templates.js";
import { TOKEN } from "../../text/vocabulary.js";
import { refuseNonFinite } from "../finite.js";
import { numbersOf } from "./model-handle.js";

/** A picture for the language model: its embeddings [tokens, width], its grid [1, rows, columns] in patches, and `merge` patches per side of a token. */
export interface EmbeddedPicture {
  readonly embeds: Tensor<"float32">;
  /** What is added behind the first layers, in order: [tokens, width] each. */
  readonly features: readonly Tensor<"float32">[];
  readonly grid: readonly [number, number, number];
  readonly merge: number;
}

/** Name of the features of pictures, numbered by layer, among the outputs of the vision tower and the inputs of the language model. */
const FEATURES = "picture_features";

/** The vision tower's feeds for one picture. */
export function pictureFeeds({ pixelValues, grid }: VisionPatches, config: VisionNumbers): Tensors {
  const geometry = textEncoderNamed(config.family).visionFeeds({ rows: grid[1], columns: grid[2] }, config);
  return { pixel_values: pixelValues, ...geometry };
}

/** The vision tower's outputs for one picture. Throws QEDIT_E_BAD_OUTPUT for NaN or infinity; `name` is for the message. */
export function embeddedPicture(
  { image_embeds: embeds, ...others }: Tensors,
  { grid }: VisionPatches,
  { config, name }: { config: VisionNumbers; name: string },
): EmbeddedPicture {
  const features: Tensor<"float32">[] = [];
  for (let layer = 0; others[`${FEATURES}.${layer}`]; layer += 1)
    features.push(others[`${FEATURES}.${layer}`] as Tensor<"float32">);
  for (const each of [embeds!, ...features]) refuseNonFinite(each, `what the vision tower sees of ${name}`);
  return { embeds: embeds as Tensor<"float32">, features, grid, merge: config.mergeSize };
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
  /** Further tokens whose hidden states are dropped: those of pictures, where the transformer does not see them. */
  readonly leftOut: readonly ImageSpan[];
}

/** What a transformer reads of a prompt. */
export interface SeenPrompt {
  /** Hidden states [1, tokens, width]. */
  readonly embeds: Tensor<"float32">;
  /** Where the hidden states of image tokens are dropped: for each picture the number of tokens before it. */
  readonly imagePositions: Tensor<"int32"> | undefined;
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
    config.family,
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
  const family = textEncoderNamed(config.family);
  return {
    feeds: {
      inputs_embeds: float32([1, expanded.length, config.width], table),
      ...family.languageFeeds(positions, config),
      ...featureFeeds(seen, images, { config, length: expanded.length }),
    },
    dropped,
    leftOut: family.conventions.keepsImageTokens ? [] : images,
  };
}

// Features of all pictures below a row of zeros, and the row that is added to each token.
function featureFeeds(
  seen: readonly EmbeddedPicture[],
  images: readonly ImageSpan[],
  { config: { pictureFeatures, width }, length }: { readonly config: LanguageNumbers; readonly length: number },
): Tensors {
  if (pictureFeatures === 0) return {};
  const rows = new BigInt64Array(length);
  let next = 1;
  for (const { start, count } of images) for (let at = start; at < start + count; at += 1) rows[at] = BigInt(next++);
  const layers = Array.from({ length: pictureFeatures }, (_, layer) => {
    const features = float32([next, width]);
    let at = width;
    for (const picture of seen) {
      const own = picture.features[layer]!;
      features.data.set(own.data, at);
      at += own.data.length;
    }
    return [`${FEATURES}.${layer}`, features] as const;
  });
  return { feature_rows: tensor("int64", [length], rows), ...Object.fromEntries(layers) };
}

/** The tokens of a templated prompt that the language model reads, with so many for each picture. Throws QEDIT_E_USAGE when no token is seen. */
export function promptTokens(
  ids: readonly number[],
  counts: readonly number[],
  family: TextEncoderName,
): ReturnType<typeof expandImages> & Pick<EmbeddedPrompt, "dropped"> {
  const dropped = templateOf(family).dropIndex(ids);
  const tokens = seenTokens(ids);
  if (tokens.length <= dropped)
    throw new QeditError("QEDIT_E_USAGE", "Cannot encode a prompt that begins with <|endoftext|>, without a picture", {
      hint: `Say what to do: ${param("prompt", "TEXT")}`,
      parameter: "prompt",
    });
  return { ...expandImages(tokens, counts), dropped };
}

/** The template of a family. */
export function templateOf(family: TextEncoderName): PromptTemplate {
  return PROMPT_TEMPLATES[textEncoderNamed(family).conventions.template];
}

/** The hidden states of a prompt without the dropped tokens. Throws QEDIT_E_BAD_OUTPUT for NaN or infinity. */
export function promptEmbeds(
  { hidden_states: hidden }: Tensors,
  { dropped, leftOut }: Pick<EmbeddedPrompt, "dropped" | "leftOut">,
): Tensor<"float32"> {
  refuseNonFinite(hidden!, "the embeddings of the prompt");
  const { shape, data } = hidden as Tensor<"float32">;
  const [, tokens, width] = shape as [number, number, number];
  const kept = tokens - dropped - leftOut.reduce((sum, { count }) => sum + count, 0);
  const embeds = float32([1, kept, width]);
  let [from, to] = [dropped, 0];
  for (const { start, count } of [...leftOut, { start: tokens, count: 0 }]) {
    embeds.data.set(data.subarray(from * width, start * width), to * width);
    to += start - from;
    from = start + count;
  }
  return embeds;
}

/** For each picture the number of kept tokens before it; undefined where its own tokens are kept. */
export function imagePositions(
  { dropped, leftOut }: Pick<EmbeddedPrompt, "dropped" | "leftOut">,
  family: TextEncoderName,
): Tensor<"int32"> | undefined {
  if (textEncoderNamed(family).conventions.keepsImageTokens) return undefined;
  let left = dropped;
  const positions = leftOut.map(({ start, count }) => {
    const before = start - left;
    left += count;
    return before;
  });
  return tensor("int32", [positions.length], Int32Array.from(positions));
}
