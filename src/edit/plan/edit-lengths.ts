// Picture sizes and sequence lengths of an edit, from the same functions that the stages use.

import { type PlanMode, planSizes, type SizePlan, type Source } from "../../image/resize/size-plan.js";
import type { LatentRoute } from "../../image/resize/size-routes.js";
import { patchesOf } from "../../models/text-encoders.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { PlannedNetworks } from "./networks.js";
import { type PromptTokens, promptTokens } from "./prompt-tokens.js";

/** Tokens of the sequences of an edit. */
export interface SequenceTokens {
  readonly prompt: PromptTokens;
  /** undefined if guidance uses no negative prompt. */
  readonly negativePrompt: PromptTokens | undefined;
  readonly target: number;
  readonly references: readonly number[];
  /** The transformer's sequence with the prompt: text, target and references. */
  readonly total: number;
}

/** Sizes and tokens of an edit. */
export interface EditLengths {
  readonly sizes: SizePlan;
  readonly tokens: SequenceTokens;
}

/** What determines them besides the pictures. */
export interface LengthsRequest {
  readonly settings: ResolvedSettings;
  readonly networks: Pick<PlannedNetworks, "vae" | "vision" | "sampled">;
  readonly tokenizer: PromptTokenizer;
}

/** The lengths of an edit. Throws QEDIT_E_USAGE and QEDIT_E_IMAGE for what `run` refuses. */
export function editLengths(
  sources: readonly Source[],
  { settings, networks, tokenizer }: LengthsRequest,
): EditLengths {
  const sizes = sizesOf(sources, settings, networks);
  const vision = sizes.images.map((image) => image.vision.tokens);
  const read = (prompt: string) =>
    promptTokens(tokenizer, prompt, {
      vision,
      unescapeParentheses: settings.match !== undefined,
      family: networks.vision.family,
    });
  const prompt = read(settings.prompt);
  const negativePrompt = settings.negativePrompt === undefined ? undefined : read(settings.negativePrompt);
  const { patchSize } = networks.sampled;
  const target = gridTokens(sizes.target, patchSize);
  const references = sizes.images.map(({ reference }) => gridTokens(reference, patchSize));
  const total = references.reduce((sum, each) => sum + each, prompt.seen + target);
  return { sizes, tokens: { prompt, negativePrompt, target, references, total } };
}

function sizesOf(
  sources: readonly Source[],
  { match, megapixels, resolutionSteps, size, region }: ResolvedSettings,
  { vae, vision }: LengthsRequest["networks"],
): SizePlan {
  return planSizes(sources, {
    region,
    mode: (match ?? "default") as PlanMode,
    cell: vae.spatialRatio,
    patches: patchesOf(vision),
    rules: vae.sizes,
    ...(megapixels === undefined ? {} : { megapixels }),
    ...(resolutionSteps === undefined ? {} : { resolutionSteps }),
    ...(size === undefined ? {} : { size }),
  });
}

function gridTokens({ latent }: LatentRoute, patchSize: number): number {
  return Math.ceil(latent.width / patchSize) * Math.ceil(latent.height / patchSize);
}
