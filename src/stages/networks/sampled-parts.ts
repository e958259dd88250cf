// What sampling takes of the artifacts before it, and what its own says of them, however its noise is given.

import { type Artifact, type ArtifactInfo, floatTensor } from "../../artifacts/artifact.js";
import { statisticsFault } from "../../artifacts/record-faults.js";
import type { Prompt, Transformer } from "../../models/transformer-family.js";
import { transformerOf } from "../../models/transformers.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { latentStatistics } from "../../models/vaes.js";
import { usesNegative } from "../../sampling/guidance.js";
import { param, QeditError } from "../../std/errors.js";
import type { Tensor } from "../../std/tensor.js";
import { refuseNonFinite } from "../finite.js";
import type { RecordedFile } from "../stage.js";
import { type ActiveLora, refuseBrokenLoras } from "./loras.js";
import { type ModelHandle, numbersOf } from "./model-handle.js";
import type { EvaluationCounts } from "./reused-blocks.js";
import type { SampledPicture } from "./sample-picture.js";
import type { Prompts } from "./velocity.js";

/** A transformer and its LoRAs. */
export interface SampledModels {
  readonly transformer: ModelHandle;
  readonly loras: readonly ActiveLora[];
}

/** The artifacts before. */
export interface SampledInputs {
  readonly latents: Artifact;
  readonly cond: Artifact;
}

/** The transformer of a file; `referenceMethod`: undefined: what it was made for. */
export function sampledTransformer(
  { checkpoint, config }: ModelHandle,
  { referenceMethod }: { readonly referenceMethod?: string | undefined },
): Transformer {
  return transformerOf(numbersOf(checkpoint), config, { referenceMethod });
}

/** A transformer, and the name of its file for messages. */
export interface NamedTransformer {
  readonly network: Pick<Transformer, "family" | "latentChannels" | "textWidth" | "placesImages">;
  readonly name: string;
}

/** The VAE's statistics as encode-image recorded them; the published ones for latents of other tools. Throws QEDIT_E_ARTIFACT for other channels than those of the transformer, and for recorded statistics that cannot be. */
export function recordedStatistics({ tensors, info }: Artifact, { network, name }: NamedTransformer): LatentStatistics {
  const channels = tensors["latent"]!.shape[1]!;
  const wanted = network.latentChannels;
  if (channels !== wanted) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the latents: they have ${channels} channels, ${name} takes ${wanted}`,
      {
        hint: `Encode the pictures with the VAE that belongs to the transformer: qedit encode-image ${param("vae", "FILE")}`,
      },
    );
  }
  const fault = statisticsFault(info, channels);
  if (fault !== undefined) {
    throw new QeditError("QEDIT_E_ARTIFACT", `Cannot use the latents by their record: ${fault}`, {
      hint: "Encode the pictures again: `qedit encode-image … -o latents.safetensors`",
    });
  }
  return (info.settings["latent_statistics"] as LatentStatistics | undefined) ?? latentStatistics(channels);
}

/** The prompts that a scale uses. Throws QEDIT_E_ARTIFACT for those of another family or width than the transformer's, and for a negative prompt that is missing. */
export function usedPrompts(
  cond: Artifact,
  { cfg, network, name }: NamedTransformer & { readonly cfg: number },
): Prompts {
  const { textWidth } = network;
  const { tensors } = cond;
  const [positive, negative] = [floatTensor(cond, "prompt_embeds"), floatTensor(cond, "negative_prompt_embeds")];
  refuseOtherFamily(tensors, { network, name });
  if (positive!.shape[2] !== textWidth) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the prompt's embeddings: they are ${positive!.shape[2]} wide, ${name} takes ${textWidth}`,
      {
        hint: `Encode the prompt with the text encoder that belongs to the transformer: qedit encode-prompt ${param("text_encoder", "FILE")}`,
      },
    );
  }
  if (usesNegative(cfg) && negative === undefined) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot sample at cfg ${cfg}: the prompt was encoded without a negative prompt`,
      {
        hint: `Add ${param("negative_prompt", '""')} to \`qedit encode-prompt\`, or sample with ${param("cfg", 1)}`,
      },
    );
  }
  const prompt = (embeds: Tensor<"float32">, places: Tensor | undefined): Prompt => ({
    embeds,
    ...(places && { imagePositions: Array.from<number | bigint, number>(places.data, Number) }),
  });
  return {
    positive: prompt(positive!, tensors[POSITIONS]),
    negative: usesNegative(cfg) ? prompt(negative!, tensors[`negative_${POSITIONS}`]) : undefined,
  };
}

/** The tensor of a prompt that says where pictures stand in it, and no prompt of another family has. */
const POSITIONS = "image_positions";

function refuseOtherFamily(
  tensors: Artifact["tensors"],
  { network: { placesImages, family }, name }: NamedTransformer,
): void {
  const isPlaced = tensors[POSITIONS] !== undefined;
  const [isNegative, isNegativePlaced] = ["prompt_embeds", POSITIONS].map(
    (key) => tensors[`negative_${key}`] !== undefined,
  );
  if (isPlaced === placesImages && (!isNegative || isNegativePlaced === placesImages)) return;
  throw new QeditError(
    "QEDIT_E_ARTIFACT",
    placesImages
      ? `Cannot use the prompt: it has no ${isPlaced ? "negative_" : ""}${POSITIONS}, ${name} is of ${family}, whose text encoder says where pictures stand`
      : `Cannot use the prompt: it has ${POSITIONS}, as of another family's text encoder, ${name} is of ${family}`,
    {
      hint: `Encode the prompt with the text encoder that belongs to the transformer: qedit encode-prompt ${param("text_encoder", "FILE")}`,
    },
  );
}

/** The samples of a run. Throws QEDIT_E_BAD_OUTPUT for NaN and infinity, and QEDIT_E_LORA if they come of a broken LoRA. */
export async function checkedSamples(
  work: Promise<SampledPicture>,
  loras: readonly ActiveLora[],
): Promise<SampledPicture> {
  try {
    const sampled = await work;
    refuseNonFinite(sampled.latent, "the samples");
    return sampled;
  } catch (error) {
    if (error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT") await refuseBrokenLoras(loras, error);
    throw error;
  }
}

/** The latents of the references, in order. */
export function referenceLatents(latents: Artifact): Tensor<"float32">[] {
  const count = Object.keys(latents.tensors).filter((name) => name.startsWith("reference_latents.")).length;
  return Array.from({ length: count }, (_, index) => floatTensor(latents, `reference_latents.${index}`)!);
}

/** A transformer and its LoRAs as records have them. */
export interface RecordedModels {
  readonly transformer: RecordedFile;
  readonly loras: readonly RecordedFile[];
}

/** Identities of model files by role. */
export function sampledWeights({ transformer: file, loras }: RecordedModels): Record<string, string> {
  return {
    transformer: file.identity,
    ...Object.fromEntries(loras.map(({ identity }, index) => [`lora.${index}`, identity])),
  };
}

/** Their names. */
export function sampledNames({ transformer: file, loras }: RecordedModels): Record<string, string> {
  return { transformer: file.name, ...Object.fromEntries(loras.map(({ name }, index) => [`lora.${index}`, name])) };
}

/** What a run is recorded with. */
export interface RecordedRun {
  readonly settings: object;
  /** With a step cache. */
  readonly evaluations?: EvaluationCounts | undefined;
}

/** The record of samples by those of what they were made from. */
export function samplesInfo(
  { latents, cond }: Readonly<Record<"latents" | "cond", ArtifactInfo>>,
  models: RecordedModels,
  { settings, evaluations }: RecordedRun,
): ArtifactInfo {
  return {
    settings: { ...latents.settings, ...cond.settings, sample: settings },
    sizes: { ...latents.sizes, ...cond.sizes, ...(evaluations && { evaluations }) },
    inputs: { ...differing(cond.inputs, latents.inputs), ...cond.inputs, ...latents.inputs },
    weights: { ...latents.weights, ...cond.weights, ...sampledWeights(models) },
    names: { ...cond.names, ...latents.names, ...sampledNames(models) },
  };
}

// Pictures of the prompt that differ from those of the latents, as `prompt.image.1`.
function differing(
  prompt: Readonly<Record<string, string>>,
  latents: Readonly<Record<string, string>>,
): Record<string, string> {
  const others = Object.entries(prompt).filter(([role, hash]) => ![hash, undefined].includes(latents[role]));
  return Object.fromEntries(others.map(([role, hash]) => [`prompt.${role}`, hash]));
}
