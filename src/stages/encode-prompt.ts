// The encode-prompt stage: a prompt and its pictures to the embeddings that the transformer reads.
import type { Artifact } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import { overWhite } from "../image/alpha.js";
import { type Box, CHANNELS, channelsOf, type FloatImage, type Size, toBytes, toFloat } from "../image/image.js";
import { type PatchConfig, type VisionPatches, visionPatches } from "../image/patches.js";
import { applySteps, type Step } from "../image/resize/resize.js";
import { type PlanMode, type PlanOptions, planSizes } from "../image/resize/size-plan.js";
import type { LanguageNumbers, ReferenceSizes, TextEncoderName, VisionNumbers } from "../models/text-encoder-family.js";
import { patchesOf, textEncoderNamed, textEncoderOf } from "../models/text-encoders.js";
import { param, QeditError } from "../std/errors.js";
import { isEmptyPrompt } from "../text/prompt.js";
import { loadTokenizer, type PromptTokenizer, tokenizerKey } from "../text/tokenizer.js";
import { END_OF_TEXT, VOCABULARIES, type VocabularyName } from "../text/vocabulary.js";
import { computedOn } from "./computed-on.js";
import { type EmbeddedPicture, type SeenPrompt, templateOf } from "./networks/embed-prompt.js";
import { condTensors, encodeIds, seePictures, textConfigs } from "./networks/encode-text.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { refuseMissingKernel } from "./networks/packed-kernel.js";
import {
  type Picture,
  pictureHashes,
  pictureNames,
  pictureProfiles,
  pixelsOf,
  pixelsWithAlpha,
  sourceOf,
} from "./pictures.js";
import type { ArtifactStage, RecordedFile, StageContext } from "./stage.js";

/** The parameters that encode-prompt reads. */
export interface EncodePromptSettings {
  readonly prompt: string;
  /** Whether a prompt that says nothing is wanted; else it is refused. */
  readonly allowEmptyPrompt: boolean;
  /** undefined: no negative prompt is encoded. */
  readonly negativePrompt: string | undefined;
  readonly match: string | undefined;
  /** Sizes as encode-image has them, where the vision tower sees the references themselves. */
  readonly size?: Size | undefined;
  readonly megapixels?: number | undefined;
  readonly resolutionSteps?: number | undefined;
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
  parameters: [
    ...(["prompt", "allowEmptyPrompt", "negativePrompt", "textDtype"] as const),
    ...(["size", "megapixels", "resolutionSteps", "match"] as const),
  ],
  async check(pictures, { models: { textEncoder }, settings }, device): Promise<void> {
    refuseEmptyPrompt(settings);
    await refuseMissingKernel(textEncoder.checkpoint, computeType(device, "text-encoder", settings.textDtype), device);
    textConfigs(pictures, textEncoder);
  },
  announce({ settings }, emit) {
    announcePrompts(settings, emit);
  },
  identity({ inputs: { pictures }, models: { textEncoder }, settings }, device) {
    return {
      inputs: pictureHashes(pictures),
      names: { ...pictureNames(pictures), text_encoder: textEncoder.name },
      settings: recorded(pictures, settings, {
        family: familyOf(textEncoder),
        computed: computedOfText(settings, device),
      }),
      weights: { text_encoder: textEncoder.identity },
      states: textEncoder.states,
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
    const [positive, negative] = await encodePrompts(prompts, seen, { config: language, file, settings, context });
    return {
      kind: "cond",
      tensors: condTensors(positive!, negative),
      info: condInfo(
        pictures,
        {
          family: language.family,
          tokens: positive!.embeds.shape[1]!,
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
    family = "Qwen2.5-VL",
    tokens,
    seen,
    textEncoder,
    computed,
  }: {
    readonly family?: TextEncoderName;
    readonly tokens: number;
    readonly seen: readonly Pick<SeenPicture, "steps" | "grid">[];
    readonly textEncoder: RecordedFile;
    readonly computed: object;
  },
  settings: PromptSettings,
): Artifact["info"] {
  return {
    settings: { encode_prompt: recorded(pictures, settings, { family, computed }) },
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

function typesSpecialToken(text: string, vocabulary: VocabularyName): boolean {
  return [END_OF_TEXT, ...VOCABULARIES[vocabulary]].some((token) => text.includes(token));
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

function familyOf({ checkpoint }: ModelHandle): TextEncoderName {
  return textEncoderOf(numbersOf(checkpoint)).name;
}

function recorded(
  pictures: readonly Picture[],
  settings: PromptSettings,
  { family, computed }: { readonly family: TextEncoderName; readonly computed: object },
): object {
  const { prompt, negativePrompt, match: tool, region, megapixels, size, resolutionSteps } = settings;
  const { conventions } = textEncoderNamed(family);
  const sizes = { megapixels: megapixels ?? null, size: size ?? null };
  return {
    version: encodePrompt.version,
    ...conventions.recorded,
    prompt,
    negative_prompt: negativePrompt ?? null,
    match: tool ?? null,
    ...(conventions.references && {
      ...sizes,
      ...(resolutionSteps !== undefined && { resolution_steps: resolutionSteps }),
    }),
    template: templateOf(family).name,
    ...(isEmptyPrompt(prompt) && { allow_empty_prompt: true }),
    ...([prompt, negativePrompt ?? ""].some((text) => typesSpecialToken(text, conventions.vocabulary)) && {
      special_tokens: SPECIAL_TOKENS,
    }),
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
  const { references } = textEncoderNamed(config.family).conventions;
  const seen = seenPictures(pictures, work.settings, { patches: patchesOf(config), references });
  const names = pictures.map(({ name }) => name);
  const embedded = await seePictures(seen, { config, names, ...work });
  return embedded.map((picture, index) => ({ picture, steps: seen[index]!.steps }));
}

/** A picture as the vision tower takes it. */
export interface SeenPicture extends VisionPatches {
  readonly steps: readonly Step[];
  /** Tokens that enter the language model. */
  readonly tokens: number;
}

/** Settings that decide what the vision tower sees. */
type SightSettings = Pick<EncodePromptSettings, "match" | "region" | "size" | "megapixels" | "resolutionSteps">;

/** Pictures as the vision tower takes them: at sizes of its own, or as the VAE encodes them. */
export function seenPictures(
  pictures: readonly Picture[],
  settings: SightSettings,
  { patches, references }: { readonly patches: PatchConfig; readonly references?: ReferenceSizes | undefined },
): SeenPicture[] {
  if (pictures.length === 0) return [];
  const { images } = planSizes(pictures.map(sourceOf), planOptions(settings, patches, references));
  return pictures.map((picture, index) => {
    const { steps, size } = images[index]![references === undefined ? "vision" : "reference"];
    // Resized with its transparency, as the VAE's reference is.
    const isTransparent = references !== undefined && picture.alpha !== undefined;
    const image = applySteps((isTransparent ? pixelsWithAlpha : pixelsOf)(picture, settings), steps);
    const side = patches.patch * patches.merge;
    const tokens = (size.width * size.height) / side ** 2;
    return { ...visionPatches(opaque(image, settings), patches), steps, tokens };
  });
}

function planOptions(
  { match: tool, region, size, megapixels, resolutionSteps }: SightSettings,
  patches: PatchConfig,
  references: ReferenceSizes | undefined,
): PlanOptions {
  const own = { mode: (tool ?? "default") as PlanMode, region, patches };
  if (references === undefined) return own;
  const wanted = { megapixels, size, resolutionSteps };
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return { ...own, ...references, ...Object.fromEntries(given) };
}

// Over white, in bytes as diffusers does it, in floats as ComfyUI.
function opaque(image: FloatImage, { match: tool }: Pick<EncodePromptSettings, "match">): FloatImage {
  if (channelsOf(image) === CHANNELS) return image;
  return tool === undefined ? toFloat(overWhite(toBytes(image, "round"))) : overWhite(image);
}

/** A prompt in its template, about so many pictures. */
export function promptTemplate(
  prompt: string,
  count: number,
  { match: tool, family }: Pick<EncodePromptSettings, "match"> & { readonly family: TextEncoderName },
): string {
  const slots = Array.from({ length: count }, (_, index) => index + 1);
  return templateOf(family).write(prompt, { slots, unescapeParentheses: tool !== undefined });
}

async function encodePrompts(
  prompts: readonly string[],
  seen: readonly EmbeddedPicture[],
  { config, ...work }: Work & { config: LanguageNumbers },
): Promise<SeenPrompt[]> {
  const { family } = config;
  const tokenizer = await tokenizerOf(textEncoderNamed(family).conventions.vocabulary, work.context);
  const { match } = work.settings;
  const ids = prompts.map((prompt) => tokenizer.encode(promptTemplate(prompt, seen.length, { match, family })));
  return encodeIds(ids, seen, { config, ...work });
}

function tokenizerOf(name: VocabularyName, { memoize }: Pick<StageContext, "memoize">): Promise<PromptTokenizer> {
  const load = () => loadTokenizer(name);
  return memoize ? memoize(tokenizerKey(name), load) : load();
}
