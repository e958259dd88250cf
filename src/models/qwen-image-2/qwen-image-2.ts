// Qwen-Image-2.1 as a family of transformers.
import { param, QeditError } from "../../std/errors.js";
import type { PromptConditions, TokenCounts, Transformer, TransformerFamily } from "../transformer-family.js";
import { isQwenImage2, type TransformerConfig, transformerConfig } from "./block-causal-config.js";
import { buildTransformer, lengthName } from "./block-causal-transformer.js";
import { latentOfTokens, latentTokens, ropeTables, type Sequence, textBefore, textMask } from "./sequence.js";
import { modulationOf } from "./shared-modulation.js";

/** Qwen-Image-2.1, its Turbo included. */
export const QWEN_IMAGE_2: TransformerFamily = {
  name: "Qwen-Image-2.1",
  matches: isQwenImage2,
  open(w, config, { referenceMethod }) {
    if (referenceMethod !== undefined)
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot place references by "${referenceMethod}": ${w.file} is of Qwen-Image-2.1, which has one way`,
        { hint: `Leave out ${param("reference_method")}`, parameter: "reference_method" },
      );
    return qwenImage2(transformerConfig(w, config));
  },
};

/** The transformer of a configuration. */
function qwenImage2(config: TransformerConfig): Transformer {
  const width = config.heads * config.headDim;
  return {
    family: QWEN_IMAGE_2.name,
    blocks: config.blocks,
    width,
    textWidth: config.textWidth,
    latentChannels: config.channels,
    patchSize: 1,
    placesImages: true,
    generates: true,
    mostPictures: 10,
    key: config,
    modulation: modulationOf(config),
    keptWidth: 2 * width,
    // Text and references, where they are computed at all, are the same at every noise level.
    compared: { name: "target", tokens: ({ target }) => target },
    lengths: lengthsOf,
    build: (graph, w, options) => buildTransformer(graph, w, { config, ...options }),
    isIdle: () => false,
    isBiased: () => false,
    isMarker: (name) => name === "scaled_fp8",
    refuse: refuseConditions,
    conditionFeeds: (conditions) => conditionFeeds(conditions, config),
    targetFeeds: (latent) => ({ latent_tokens: latentTokens(latent) }),
    latentOf: latentOfTokens,
  };
}

function lengthsOf({ text, target, references }: TokenCounts): Record<string, number> {
  return {
    ...{ text, target, prefix: references.reduce((sum, each) => sum + each, text) },
    ...Object.fromEntries(references.map((count, index) => [lengthName("reference", index), count])),
    // As many at most.
    ...Object.fromEntries(references.map((_, index) => [lengthName("before", index), text])),
  };
}

// A grid of tokens with an odd side would not be centred as one with an even side is: by half a token.
function refuseConditions({ shape, references, prompt: { embeds, imagePositions = [] } }: PromptConditions): void {
  const odd = [shape, ...references.map((each) => each.shape)].find((each) => each[2]! % 2 !== 0 || each[3]! % 2 !== 0);
  if (odd !== undefined)
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot sample latents of ${odd[2]} × ${odd[3]} cells: Qwen-Image-2.1 takes even sides, multiples of 32 pixels`,
      { hint: "Encode the pictures again: `qedit encode-image`" },
    );
  if (imagePositions.length !== references.length)
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot sample: the prompt was encoded with ${counted(imagePositions.length)}, the latents are of ${counted(references.length)}`,
      { hint: "Encode pictures and prompt with the same pictures: `qedit encode-image`, `qedit encode-prompt`" },
    );
  const tokens = embeds.shape[1]!;
  const isPlace = (place: number, index: number) =>
    Number.isInteger(place) && place >= (imagePositions[index - 1] ?? 0) && place <= tokens;
  if (!imagePositions.every(isPlace))
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot sample: image_positions [${imagePositions.join(", ")}] are no rising places among ${tokens} tokens`,
      { hint: "Encode the prompt again: `qedit encode-prompt`" },
    );
}

function counted(pictures: number): string {
  return pictures === 1 ? "1 picture" : `${pictures} pictures`;
}

function conditionFeeds(
  { shape, references, prompt: { embeds, imagePositions = [] } }: PromptConditions,
  config: TransformerConfig,
) {
  const gridOf = (latent: readonly number[]) => ({ rows: latent[2]!, columns: latent[3]! });
  const sequence: Sequence = {
    text: embeds.shape[1]!,
    references: references.map((each) => gridOf(each.shape)),
    imagePositions,
    target: gridOf(shape),
  };
  const { prefix, target } = ropeTables(sequence, config);
  return {
    prompt_embeds: embeds,
    text_mask: textMask(sequence),
    ...Object.fromEntries(references.map((each, index) => [`reference_tokens.${index}`, latentTokens(each)])),
    ...Object.fromEntries(imagePositions.map((place, index) => [`text_before.${index}`, textBefore(place)])),
    ...{ prefix_cos: prefix.cos, prefix_sin: prefix.sin },
    ...{ target_cos: target.cos, target_sin: target.sin },
  };
}
