// The encode-prompt stage: a prompt and its pictures to the embeddings that the transformer reads.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import type { Box } from "../image/image.js";
import { type PatchConfig, type VisionPatches, visionPatches } from "../image/patches.js";
import { applySteps, type Step } from "../image/resize/resize.js";
import { type PlanMode, planSizes } from "../image/resize/size-plan.js";
import {
  type LanguageConfig,
  languageConfig,
  type VisionConfig,
  visionConfig,
} from "../models/qwen2.5-vl/text-encoder-config.js";
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { tensorHash } from "../std/tensor-hash.js";
import { editPrompt, isEmptyPrompt, TEMPLATE_NAME } from "../text/prompt.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { COMFYUI_TOKENS, END_OF_TEXT } from "../text/vocabulary.js";
import { computedOn } from "./computed-on.js";
import {
  type EmbeddedPicture,
  type EmbeddedPrompt,
  embeddedPicture,
  embedPrompt,
  pictureFeeds,
  promptEmbeds,
  refuseSmallVocabulary,
} from "./networks/embed-prompt.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { withLanguageModel } from "./networks/open-language-model.js";
import { withVisionTower } from "./networks/open-vision-tower.js";
import { type Picture, pictureHashes, pictureNames, pictureProfiles, pixelsOf, sourceOf } from "./pictures.js";
import type { ArtifactStage, StageContext, StageLengths } from "./stage.js";

/** The parameters that encode-prompt reads. */
export interface EncodePromptSettings {
  readonly prompt: string;
  /** Whether a prompt that says nothing is wanted; else it is refused. */
  readonly allowEmptyPrompt: boolean;
  /** undefined: no negative prompt is encoded. */
  readonly negativePrompt: string | undefined;
  readonly match: string | undefined;
  readonly textDtype: string;
  /** The part of picture 1 that is edited, and that the prompt sees; undefined: all of it. */
  readonly region?: Box | undefined;
}

interface Inputs {
  readonly pictures: readonly Picture[];
}
interface Models {
  readonly textEncoder: ModelHandle;
}

/** Prompt and pictures → `cond`: `prompt_embeds`, and `negative_prompt_embeds` when a negative prompt was given. */
export const encodePrompt: ArtifactStage<Inputs, Models, EncodePromptSettings> = {
  name: "encode-prompt",
  summary: "Encode a prompt, with the pictures it speaks of",
  version: 2,
  inputs: { pictures: "the pictures, in the order the prompt counts them" } as const,
  output: "cond",
  parameters: ["prompt", "allowEmptyPrompt", "negativePrompt", "match", "textDtype"],
  async check(pictures, { models: { textEncoder }, settings }, device): Promise<StageLengths> {
    refuseEmptyPrompt(settings);
    computeType(device, "text-encoder", settings.textDtype);
    const { language } = networkConfigs(pictures, textEncoder);
    return { "prompt width": language.width };
  },
  announce({ settings: { prompt, negativePrompt = "" } }, emit) {
    for (const [what, text] of Object.entries({ prompt, "negative prompt": negativePrompt })) {
      if (text.includes(END_OF_TEXT))
        emit({
          kind: "warning",
          text: `the ${what} ends at its ${END_OF_TEXT}: the model sees nothing of what follows`,
        });
    }
  },
  identity({ inputs: { pictures }, models: { textEncoder }, settings }, device) {
    return {
      inputs: pictureHashes(pictures),
      names: { ...pictureNames(pictures), text_encoder: textEncoder.name },
      settings: recorded(pictures, settings, device),
      weights: { text_encoder: textEncoder.identity },
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { textEncoder: file }, settings }, context): Promise<Artifact> {
    const { prompt } = settings;
    refuseEmptyPrompt(settings);
    const { language, vision } = networkConfigs(pictures, file);
    const encoded = vision ? await encodePictures(pictures, vision, { file, settings, context }) : [];
    const seen = encoded.map(({ picture }) => picture);
    const prompts = settings.negativePrompt === undefined ? [prompt] : [prompt, settings.negativePrompt];
    const [embeds, negative] = await encodePrompts(prompts, seen, { config: language, file, settings, context });
    return {
      kind: "cond",
      tensors: { prompt_embeds: embeds!, ...(negative ? { negative_prompt_embeds: negative } : {}) },
      info: {
        settings: { encode_prompt: recorded(pictures, settings, context.engine.device) },
        sizes: {
          prompt_tokens: embeds!.shape[1],
          vision_grids: seen.map(({ grid }) => grid),
          vision_steps: encoded.map(({ steps }) => steps),
        },
        inputs: pictureHashes(pictures),
        weights: { text_encoder: file.identity },
        names: { ...pictureNames(pictures), text_encoder: file.name },
      },
    };
  },
};

interface TokenInputs {
  /** Tokens in the edit template, one <|image_pad|> for each picture; see embedPrompt. */
  readonly ids: readonly number[];
  /** Those of the negative prompt. */
  readonly negativeIds: readonly number[] | undefined;
  /** What the vision tower reads of each picture. */
  readonly patches: readonly VisionPatches[];
}

/** The stage for prompts that are tokens, and pictures that are patches. */
export const encodeTokens: ArtifactStage<TokenInputs, Models, Pick<EncodePromptSettings, "textDtype">> = {
  name: encodePrompt.name,
  summary: "Encode the tokens of a prompt, with the pictures it speaks of",
  version: 1,
  inputs: { ids: "tokens of the prompt", negativeIds: "of the negative prompt", patches: "of the pictures" },
  output: encodePrompt.output,
  parameters: ["textDtype"],
  async check(pictures, { models: { textEncoder }, settings }, device): Promise<StageLengths> {
    computeType(device, "text-encoder", settings.textDtype);
    return { "prompt width": networkConfigs(pictures, textEncoder).language.width };
  },
  announce() {},
  identity({ inputs: { ids, negativeIds, patches }, models: { textEncoder }, settings }, device) {
    const compute = computeType(device, "text-encoder", settings.textDtype);
    return {
      inputs: { ids, negative_ids: negativeIds ?? null, patches: patches.map(patchesRecord) },
      names: { text_encoder: textEncoder.name },
      settings: { version: encodeTokens.version, tokens: true, ...computedOn(device, compute) },
      weights: { text_encoder: textEncoder.identity },
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { ids, negativeIds, patches }, models: { textEncoder: file }, settings }, context) {
    const work = { file, settings, context };
    const { language, vision } = networkConfigs(patches, file);
    const names = patches.map((_, index) => `picture ${index + 1}`);
    const seen = vision ? await seePictures(patches, { config: vision, names, ...work }) : [];
    const prompts = negativeIds === undefined ? [ids] : [ids, negativeIds];
    const [embeds, negative] = await encodeIds(prompts, seen, { config: language, ...work });
    const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
    return {
      kind: "cond",
      tensors: { prompt_embeds: embeds!, ...(negative ? { negative_prompt_embeds: negative } : {}) },
      info: {
        settings: {
          encode_prompt: {
            ...{ version: encodeTokens.version, tokens: true },
            ...computedOn(context.engine.device, compute),
          },
        },
        sizes: { prompt_tokens: embeds!.shape[1], vision_grids: seen.map(({ grid }) => grid) },
        inputs: {},
        weights: { text_encoder: file.identity },
        names: { text_encoder: file.name },
      },
    };
  },
};

function patchesRecord({ grid, pixelValues }: VisionPatches): object {
  return { grid, values: tensorHash(pixelValues) };
}

/** Version of what typed special tokens mean, recorded where a prompt has one; 1, which was not recorded, knew fewer. */
const SPECIAL_TOKENS = 2;

function typesSpecialToken(text: string): boolean {
  return [END_OF_TEXT, ...COMFYUI_TOKENS].some((token) => text.includes(token));
}

/** Throws QEDIT_E_USAGE for a prompt that says nothing, as of a variable that is not set, unless it is allowed. */
export function refuseEmptyPrompt({
  prompt,
  allowEmptyPrompt,
}: Pick<EncodePromptSettings, "prompt" | "allowEmptyPrompt">): void {
  if (allowEmptyPrompt || !isEmptyPrompt(prompt)) return;
  throw new QeditError("QEDIT_E_USAGE", "Cannot edit by an empty prompt: it says nothing", {
    hint: `Say what to do with ${param("prompt", "TEXT")}, or go on with ${param("allow_empty_prompt")}`,
    parameter: "prompt",
  });
}

function recorded(pictures: readonly Picture[], settings: EncodePromptSettings, device: Device): object {
  const { prompt, negativePrompt, match: tool, textDtype, region } = settings;
  const numbers = {
    version: encodePrompt.version,
    prompt,
    negative_prompt: negativePrompt ?? null,
    match: tool ?? null,
    template: TEMPLATE_NAME,
    ...(isEmptyPrompt(prompt) && { allow_empty_prompt: true }),
    ...([prompt, negativePrompt ?? ""].some(typesSpecialToken) && { special_tokens: SPECIAL_TOKENS }),
    ...(region && { region }),
    ...pictureProfiles(pictures, settings),
  };
  return { ...numbers, ...computedOn(device, computeType(device, "text-encoder", textDtype)) };
}

// The configs of the networks that will run. Throws QEDIT_E_CHECKPOINT if the file lacks the vision tower or tokens of the prompt template.
function networkConfigs(
  pictures: readonly unknown[],
  { checkpoint, config }: ModelHandle,
): { language: LanguageConfig; vision: VisionConfig | undefined } {
  const numbers = numbersOf(checkpoint);
  const language = languageConfig(numbers, config);
  const vision = pictures.length > 0 ? visionConfig(numbers, config) : undefined;
  refuseSmallVocabulary(checkpoint);
  return { language, vision };
}

interface Work<Settings = EncodePromptSettings> {
  readonly file: ModelHandle;
  readonly settings: Settings;
  readonly context: StageContext;
}

type TypedWork = Work<Pick<EncodePromptSettings, "textDtype">>;

interface EncodedPicture {
  readonly picture: EmbeddedPicture;
  readonly steps: readonly Step[];
}

async function encodePictures(
  pictures: readonly Picture[],
  config: VisionConfig,
  { file, settings, context }: Work,
): Promise<EncodedPicture[]> {
  const patches: PatchConfig = { patch: config.patchSize, temporal: config.temporalPatchSize, merge: config.mergeSize };
  const plan = planSizes(pictures.map(sourceOf), {
    mode: (settings.match ?? "default") as PlanMode,
    region: settings.region,
    patches,
  });
  const names = pictures.map(({ name }) => name);
  const seen = pictures.map((picture, index) =>
    visionPatches(applySteps(pixelsOf(picture, settings), plan.images[index]!.vision.steps), patches),
  );
  const embedded = await seePictures(seen, { config, names, file, settings, context });
  return embedded.map((picture, index) => ({ picture, steps: plan.images[index]!.vision.steps }));
}

// Runs the vision tower on each picture. Its session is closed before the language model opens.
async function seePictures(
  seen: readonly VisionPatches[],
  { config, names, file, settings, context }: TypedWork & { config: VisionConfig; names: readonly string[] },
): Promise<EmbeddedPicture[]> {
  const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
  const tokens = Math.max(...seen.map(({ grid }) => (grid[1] * grid[2]) / config.mergeSize ** 2));
  return withVisionTower({ file, config, compute, tokens }, context, async (tower) => {
    context.emit({ kind: "activity", text: `looking at ${names.join(", ")}` });
    const embedded = await tower.run(seen.map((each) => pictureFeeds(each, config)));
    return embedded.map((each, index) => embeddedPicture(each, seen[index]!, { config, name: names[index]! }));
  });
}

async function encodePrompts(
  prompts: readonly string[],
  seen: readonly EmbeddedPicture[],
  { config, file, settings, context }: Work & { config: LanguageConfig },
): Promise<Tensor<"float32">[]> {
  const tokenizer = await (context.memoize ? context.memoize("tokenizer", loadTokenizer) : loadTokenizer());
  const ids = prompts.map((prompt) => {
    const slots = seen.map((_, index) => index + 1);
    return tokenizer.encode(editPrompt(prompt, { slots, unescapeParentheses: settings.match !== undefined }));
  });
  return encodeIds(ids, seen, { config, file, settings, context });
}

async function encodeIds(
  prompts: readonly (readonly number[])[],
  seen: readonly EmbeddedPicture[],
  { config, file, settings, context }: TypedWork & { config: LanguageConfig },
): Promise<Tensor<"float32">[]> {
  const prepared: EmbeddedPrompt[] = [];
  for (const ids of prompts) prepared.push(await embedPrompt(ids, seen, { config, checkpoint: file.checkpoint }));
  const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
  const tokens = Math.max(...prepared.map(({ feeds }) => feeds["inputs_embeds"]!.shape[1]!));
  return withLanguageModel({ file, config, compute, tokens }, context, async (chain) => {
    context.emit({ kind: "activity", text: "reading the prompt" });
    const hidden = await chain.run(prepared.map(({ feeds }) => feeds));
    return hidden.map((each, index) => promptEmbeds(each, prepared[index]!));
  });
}
