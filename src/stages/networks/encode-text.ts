// The networks of the text encoder: the vision tower on what it reads of each picture, then the language model on tokens.
import type { ArtifactTensors } from "../../artifacts/artifact.js";
import { computeType } from "../../engine/providers.js";
import type { VisionPatches } from "../../image/patches.js";
import type { LanguageNumbers, VisionNumbers } from "../../models/text-encoder-family.js";
import { languageConfig, visionConfig } from "../../models/text-encoders.js";
import type { StageContext } from "../stage.js";
import {
  type EmbeddedPicture,
  type EmbeddedPrompt,
  embeddedPicture,
  embedPrompt,
  imagePositions,
  pictureFeeds,
  promptEmbeds,
  refuseSmallVocabulary,
  type SeenPrompt,
} from "./embed-prompt.js";
import { type ModelHandle, numbersOf } from "./model-handle.js";
import { withLanguageModel } from "./open-language-model.js";
import { withVisionTower } from "./open-vision-tower.js";

/** A text encoder at work. */
export interface TextWork {
  readonly file: ModelHandle;
  readonly settings: { readonly textDtype: string };
  readonly context: StageContext;
}

/** The configs of the networks that will run. Throws QEDIT_E_CHECKPOINT if the file lacks the vision tower or tokens of the prompt template. */
export function textConfigs(
  pictures: readonly unknown[],
  { checkpoint, config }: ModelHandle,
): { language: LanguageNumbers; vision: VisionNumbers | undefined } {
  const numbers = numbersOf(checkpoint);
  const language = languageConfig(numbers, config);
  const vision = pictures.length > 0 ? visionConfig(numbers, config) : undefined;
  refuseSmallVocabulary(checkpoint);
  return { language, vision };
}

/** Runs the vision tower on each picture. Its session is closed before the language model opens. */
export async function seePictures(
  seen: readonly VisionPatches[],
  { config, names, file, settings, context }: TextWork & { config: VisionNumbers; names: readonly string[] },
): Promise<EmbeddedPicture[]> {
  const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
  const tokens = Math.max(...seen.map(({ grid }) => (grid[1] * grid[2]) / config.mergeSize ** 2));
  return withVisionTower({ file, config, compute, tokens }, context, async (tower) => {
    context.emit({ kind: "activity", text: `looking at ${names.join(", ")}` });
    const embedded = await tower.run(seen.map((each) => pictureFeeds(each, config)));
    return embedded.map((each, index) => embeddedPicture(each, seen[index]!, { config, name: names[index]! }));
  });
}

/** What the transformer reads of templated prompts, given as token ids. */
export async function encodeIds(
  prompts: readonly (readonly number[])[],
  seen: readonly EmbeddedPicture[],
  { config, file, settings, context }: TextWork & { config: LanguageNumbers },
): Promise<SeenPrompt[]> {
  const prepared: EmbeddedPrompt[] = [];
  for (const ids of prompts) prepared.push(await embedPrompt(ids, seen, { config, checkpoint: file.checkpoint }));
  const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
  const tokens = Math.max(...prepared.map(({ feeds }) => feeds["inputs_embeds"]!.shape[1]!));
  return withLanguageModel({ file, config, compute, tokens }, context, async (chain) => {
    context.emit({ kind: "activity", text: "reading the prompt" });
    const hidden = await chain.run(prepared.map(({ feeds }) => feeds));
    return hidden.map((each, index) => ({
      embeds: promptEmbeds(each, prepared[index]!),
      imagePositions: imagePositions(prepared[index]!, config.family),
    }));
  });
}

/** The tensors of `cond`. */
export function condTensors(positive: SeenPrompt, negative: SeenPrompt | undefined): ArtifactTensors {
  return {
    prompt_embeds: positive.embeds,
    ...(positive.imagePositions && { image_positions: positive.imagePositions }),
    ...(negative && { negative_prompt_embeds: negative.embeds }),
    ...(negative?.imagePositions && { negative_image_positions: negative.imagePositions }),
  };
}
