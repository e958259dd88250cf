// The encode-prompt stage: a prompt and its pictures to the embeddings that the transformer reads.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import type { Box } from "../image/image.js";
import { type PatchConfig, type VisionPatches, visionPatches } from "../image/patches.js";
import { applySteps, type Step } from "../image/resize/resize.js";
import { type PlanMode, planSizes, type SizePlan } from "../image/resize/size-plan.js";
import type { LanguageNumbers, VisionNumbers } from "../models/text-encoder-family.js";
import { patchesOf } from "../models/text-encoders.js";
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { editPrompt, isEmptyPrompt, TEMPLATE_NAME } from "../text/prompt.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { COMFYUI_TOKENS, END_OF_TEXT } from "../text/vocabulary.js";
import { computedOn } from "./computed-on.js";
import type { EmbeddedPicture } from "./networks/embed-prompt.js";
import { encodeIds, seePictures, textConfigs } from "./networks/encode-text.js";
import type { ModelHandle } from "./networks/model-handle.js";
import { type Picture, pictureHashes, pictureNames, pictureProfiles, pixelsOf, sourceOf } from "./pictures.js";
import type { ArtifactStage, RecordedFile, StageContext, StageLengths } from "./stage.js";

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
    const { language } = textConfigs(pictures, textEncoder);
    return { "prompt width": language.width };
  },
  announce({ settings }, emit) {
    announcePrompts(settings, emit);
  },
  identity({ inputs: { pictures }, models: { textEncoder }, settings }, device) {
    return {
      inputs: pictureHashes(pictures),
      names: { ...pictureNames(pictures), text_encoder: textEncoder.name },
      settings: recorded(pictures, settings, computedOfText(settings, device)),
      weights: { text_encoder: textEncoder.identity },
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { pictures }, models: { textEncoder: file }, settings }, context): Promise<Artifact> {
    const { prompt } = settings;
    refuseEmptyPrompt(settings);
    const { language, vision } = textConfigs(pictures, file);
    const encoded = vision ? await encodePictures(pictures, vision, { file, settings, context }) : [];
    const seen = encoded.map(({ picture }) => picture);
    const prompts = settings.negativePrompt === undefined ? [prompt] : [prompt, settings.negativePrompt];
    const [embeds, negative] = await encodePrompts(prompts, seen, { config: language, file, settings, context });
    return {
      kind: "cond",
      tensors: { prompt_embeds: embeds!, ...(negative ? { negative_prompt_embeds: negative } : {}) },
      info: condInfo(
        pictures,
        {
          tokens: embeds!.shape[1]!,
          seen: encoded.map(({ picture: { grid }, steps }) => ({ grid, steps })),
          textEncoder: file,
          computed: computedOfText(settings, context.engine.device),
        },
        settings,
      ),
    };
  },
};

/** Emits what of the prompts is not seen. */
export function announcePrompts(
  { prompt, negativePrompt = "" }: Pick<EncodePromptSettings, "prompt" | "negativePrompt">,
  emit: StageContext["emit"],
): void {
  for (const [what, text] of Object.entries({ prompt, "negative prompt": negativePrompt })) {
    if (text.includes(END_OF_TEXT))
      emit({
        kind: "warning",
        text: `the ${what} ends at its ${END_OF_TEXT}: the model sees nothing of what follows`,
      });
  }
}

/** The record of `cond`; `computed` is what computedOn gives. */
export function condInfo(
  pictures: readonly Picture[],
  {
    tokens,
    seen,
    textEncoder,
    computed,
  }: {
    readonly tokens: number;
    readonly seen: readonly Pick<SeenPicture, "steps" | "grid">[];
    readonly textEncoder: RecordedFile;
    readonly computed: object;
  },
  settings: PromptSettings,
): Artifact["info"] {
  return {
    settings: { encode_prompt: recorded(pictures, settings, computed) },
    sizes: {
      prompt_tokens: tokens,
      vision_grids: seen.map(({ grid }) => grid),
      vision_steps: seen.map(({ steps }) => steps),
    },
    inputs: pictureHashes(pictures),
    weights: { text_encoder: textEncoder.identity },
    names: { ...pictureNames(pictures), text_encoder: textEncoder.name },
  };
}

/** The settings that decide what the prompt says. */
export type PromptSettings = Omit<EncodePromptSettings, "textDtype" | "allowEmptyPrompt">;

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

function computedOfText({ textDtype }: EncodePromptSettings, device: Device): object {
  return computedOn(device, computeType(device, "text-encoder", textDtype));
}

function recorded(pictures: readonly Picture[], settings: PromptSettings, computed: object): object {
  const { prompt, negativePrompt, match: tool, region } = settings;
  return {
    version: encodePrompt.version,
    prompt,
    negative_prompt: negativePrompt ?? null,
    match: tool ?? null,
    template: TEMPLATE_NAME,
    ...(isEmptyPrompt(prompt) && { allow_empty_prompt: true }),
    ...([prompt, negativePrompt ?? ""].some(typesSpecialToken) && { special_tokens: SPECIAL_TOKENS }),
    ...(region && { region }),
    ...pictureProfiles(pictures, settings),
    ...computed,
  };
}

interface Work {
  readonly file: ModelHandle;
  readonly settings: EncodePromptSettings;
  readonly context: StageContext;
}

interface EncodedPicture {
  readonly picture: EmbeddedPicture;
  readonly steps: readonly Step[];
}

async function encodePictures(
  pictures: readonly Picture[],
  config: VisionNumbers,
  work: Work,
): Promise<EncodedPicture[]> {
  const seen = seenPictures(pictures, work.settings, patchesOf(config));
  const names = pictures.map(({ name }) => name);
  const embedded = await seePictures(seen, { config, names, ...work });
  return embedded.map((picture, index) => ({ picture, steps: seen[index]!.steps }));
}

function visionPlan(
  pictures: readonly Picture[],
  { match: tool, region }: Pick<EncodePromptSettings, "match" | "region">,
  patches: PatchConfig,
): SizePlan {
  return planSizes(pictures.map(sourceOf), { mode: (tool ?? "default") as PlanMode, region, patches });
}

/** A picture as the vision tower takes it. */
export interface SeenPicture extends VisionPatches {
  readonly steps: readonly Step[];
  /** Tokens that enter the language model. */
  readonly tokens: number;
}

/** Pictures as the vision tower takes them. */
export function seenPictures(
  pictures: readonly Picture[],
  settings: Pick<EncodePromptSettings, "match" | "region">,
  patches: PatchConfig,
): SeenPicture[] {
  if (pictures.length === 0) return [];
  const { images } = visionPlan(pictures, settings, patches);
  return pictures.map((picture, index) => {
    const { steps, tokens } = images[index]!.vision;
    return { ...visionPatches(applySteps(pixelsOf(picture, settings), steps), patches), steps, tokens };
  });
}

/** A prompt in its template, about so many pictures. */
export function promptTemplate(
  prompt: string,
  count: number,
  { match: tool }: Pick<EncodePromptSettings, "match">,
): string {
  const slots = Array.from({ length: count }, (_, index) => index + 1);
  return editPrompt(prompt, { slots, unescapeParentheses: tool !== undefined });
}

async function encodePrompts(
  prompts: readonly string[],
  seen: readonly EmbeddedPicture[],
  { config, ...work }: Work & { config: LanguageNumbers },
): Promise<Tensor<"float32">[]> {
  const { memoize } = work.context;
  const tokenizer = await (memoize ? memoize("tokenizer", loadTokenizer) : loadTokenizer());
  const ids = prompts.map((prompt) => tokenizer.encode(promptTemplate(prompt, seen.length, work.settings)));
  return encodeIds(ids, seen, { config, ...work });
}
