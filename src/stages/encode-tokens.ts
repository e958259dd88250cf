// The encode-prompt stage for prompts that are tokens, and pictures that are patches: as an exported text encoder takes them.
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import type { VisionPatches } from "../image/patches.js";
import { tensorHash } from "../std/tensor-hash.js";
import { computedOn } from "./computed-on.js";
import { condTensors, encodeIds, seePictures, type TextWork, textConfigs } from "./networks/encode-text.js";
import type { ModelHandle } from "./networks/model-handle.js";
import type { ArtifactStage } from "./stage.js";

interface TokenInputs {
  /** Tokens in the edit template, one <|image_pad|> for each picture; see embedPrompt. */
  readonly ids: readonly number[];
  /** Those of the negative prompt. */
  readonly negativeIds: readonly number[] | undefined;
  /** What the vision tower reads of each picture. */
  readonly patches: readonly VisionPatches[];
}

/** The stage for prompts that are tokens, and pictures that are patches. */
export const encodeTokens: ArtifactStage<TokenInputs, { readonly textEncoder: ModelHandle }, TextWork["settings"]> = {
  name: "encode-prompt",
  summary: "Encode the tokens of a prompt, with the pictures it speaks of",
  version: 1,
  inputs: { ids: "tokens of the prompt", negativeIds: "of the negative prompt", patches: "of the pictures" },
  output: "cond",
  parameters: ["textDtype"],
  async check(pictures, { models: { textEncoder }, settings }, device): Promise<void> {
    computeType(device, "text-encoder", settings.textDtype);
    textConfigs(pictures, textEncoder);
  },
  announce() {},
  identity({ inputs: { ids, negativeIds, patches }, models: { textEncoder }, settings }, device) {
    const compute = computeType(device, "text-encoder", settings.textDtype);
    return {
      inputs: { ids, negative_ids: negativeIds ?? null, patches: patches.map(patchesRecord) },
      names: { text_encoder: textEncoder.name },
      settings: { version: encodeTokens.version, tokens: true, ...computedOn(device, compute) },
      weights: { text_encoder: textEncoder.identity },
      states: textEncoder.states,
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { ids, negativeIds, patches }, models: { textEncoder: file }, settings }, context) {
    const work = { file, settings, context };
    const { language, vision } = textConfigs(patches, file);
    const names = patches.map((_, index) => `picture ${index + 1}`);
    const seen = vision ? await seePictures(patches, { config: vision, names, ...work }) : [];
    const prompts = negativeIds === undefined ? [ids] : [ids, negativeIds];
    const [positive, negative] = await encodeIds(prompts, seen, { config: language, ...work });
    const compute = computeType(context.engine.device, "text-encoder", settings.textDtype);
    return {
      kind: "cond",
      tensors: condTensors(positive!, negative),
      info: {
        settings: {
          encode_prompt: {
            ...{ version: encodeTokens.version, tokens: true },
            ...computedOn(context.engine.device, compute),
          },
        },
        sizes: { prompt_tokens: positive!.embeds.shape[1], vision_grids: seen.map(({ grid }) => grid) },
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
