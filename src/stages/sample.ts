// The sample stage: denoises a latent under a prompt and reference latents.
import { type Artifact, type ArtifactInfo, artifactHash } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import type { Model } from "../engine/sessions/engine.js";
import type { DType } from "../graph/types.js";
import {
  type LatentStatistics,
  latentStatistics,
  type TransformerConfig,
  transformerConfig,
} from "../models/qwen-image/transformer-config.js";
import { NOISE_SEED_OFFSET, type SamplingSettings, sampleLatent, samplingSigmas } from "../sampling/driver.js";
import { evaluatedSigmas } from "../sampling/evaluated.js";
import { usesNegative } from "../sampling/guidance.js";
import { param, QeditError } from "../std/errors.js";
import { float32, type Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { refuseNonFinite } from "./finite.js";
import { type ActiveLora, refuseBrokenLoras, reportLora } from "./networks/loras.js";
import { type ModelHandle, numbersOf } from "./networks/model-handle.js";
import { wholeTransformer, withTransformer } from "./networks/open-transformer.js";
import { type Embeds, normalisedLatent, tokenLengths, velocityOf } from "./networks/velocity.js";
import type { ArtifactStage, RecordedFile, StageConfig, StageContext, StageLengths } from "./stage.js";

/** Every number of a sampling run, as parameters have them. */
export interface SamplingNumbers extends Omit<SamplingSettings, "cfgNorm" | "lcm"> {
  /** "none": no CFGNorm. */
  readonly cfgNorm: number | "none";
  /** Of the sampler lcm, see LcmNoise. */
  readonly lcmNoise?: number | undefined;
  readonly lcmNoiseEnd?: number | undefined;
  readonly lcmNoiseClip?: number | undefined;
}

/** The parameters that sample reads. */
export interface SampleSettings extends SamplingNumbers {
  readonly dtype: string;
  /** One of REFERENCE_METHODS; undefined: what the transformer was made for. */
  readonly referenceMethod?: string | undefined;
}

/** Parameters as the settings of a run. */
export function samplingOf({
  cfgNorm,
  lcmNoise,
  lcmNoiseEnd,
  lcmNoiseClip,
  ...rest
}: SamplingNumbers): SamplingSettings {
  return {
    ...rest,
    cfgNorm: cfgNorm === "none" ? undefined : cfgNorm,
    lcm: { scale: lcmNoise, endScale: lcmNoiseEnd, clip: lcmNoiseClip },
  };
}

interface Inputs {
  readonly latents: Artifact;
  readonly cond: Artifact;
}
interface Models {
  readonly transformer: ModelHandle;
  readonly loras: readonly ActiveLora[];
}

/** `latents` and `cond` → `samples`: `latent_tensor` [1, 16, h, w], un-normalised. */
export const sample: ArtifactStage<Inputs, Models, SampleSettings> = {
  name: "sample",
  summary: "Sample a latent under a prompt and reference latents",
  version: 1,
  inputs: { latents: "what encode-image made", cond: "what encode-prompt made" },
  output: "samples",
  parameters: [
    ...(["seed", "steps", "cfg", "sampler", "scheduler", "shift", "denoise", "cfgNorm"] as const),
    ...(["lcmNoise", "lcmNoiseEnd", "lcmNoiseClip", "referenceMethod", "dtype"] as const),
  ],
  async check(_pictures, { models: { transformer }, settings }, device): Promise<StageLengths> {
    computeType(device, "transformer", settings.dtype);
    samplingSigmas(samplingOf(settings));
    const numbers = configOf(transformer, settings);
    return { "latent channels": latentChannels(numbers), "prompt width": numbers.textWidth };
  },
  announce({ models: { loras } }, emit) {
    for (const lora of loras) reportLora(lora, emit);
  },
  identity({ inputs: { latents, cond }, models: { transformer, loras }, settings }, device) {
    const compute = computeType(device, "transformer", settings.dtype);
    return {
      inputs: { latents: artifactHash(latents), cond: artifactHash(cond) },
      settings: recorded(settings, loras, computedOn(device, compute)),
      weights: weightsOf(transformer, loras),
      names: namesOf(transformer, loras),
      device: deviceIdentity(device),
    };
  },
  async run({ inputs: { latents, cond }, models: { transformer: file, loras }, settings }, context): Promise<Artifact> {
    const config = configOf(file, settings);
    const embeds = promptEmbeds(cond, { cfg: settings.cfg, width: config.textWidth, name: file.checkpoint.file });
    const statistics = statisticsOf(latents, { channels: latentChannels(config), name: file.checkpoint.file });
    const compute = computeType(context.engine.device, "transformer", settings.dtype);
    const work = { sampling: settings, config, file, loras, compute, context };
    const latent = await samplePicture({ latents, embeds, statistics }, work)
      .then((samples) => {
        refuseNonFinite(samples, "the samples");
        return samples;
      })
      .catch(async (error: unknown) => {
        if (error instanceof QeditError && error.code === "QEDIT_E_BAD_OUTPUT") await refuseBrokenLoras(loras, error);
        throw error;
      });
    const info = samplesInfo(
      { latents: latents.info, cond: cond.info },
      { transformer: file, loras, computed: computedOn(context.engine.device, compute) },
      settings,
    );
    return { kind: "samples", tensors: { latent_tensor: latent }, info };
  },
};

/** The transformer's graph if all of it fits. */
export function sampledModel(
  { models, settings }: StageConfig<Models, SampleSettings>,
  context: StageContext,
): Promise<Model> {
  const { transformer: file, loras } = models;
  const config = configOf(file, settings);
  const compute = computeType(context.engine.device, "transformer", settings.dtype);
  return wholeTransformer({ file, config, compute, loras }, context);
}

function configOf({ checkpoint, config }: ModelHandle, { referenceMethod }: SampleSettings): TransformerConfig {
  return transformerConfig(numbersOf(checkpoint), config, { referenceMethod });
}

function latentChannels({ patchWidth, patchSize }: TransformerConfig): number {
  return patchWidth / patchSize ** 2;
}

/** The VAE's statistics as encode-image recorded them; the published ones for latents of other tools. Throws QEDIT_E_ARTIFACT for latents of other channels than those of a transformer; `name` is its file. */
export function statisticsOf(
  { tensors, info }: Artifact,
  { channels: wanted, name }: { readonly channels: number; readonly name: string },
): LatentStatistics {
  const channels = tensors["latent"]!.shape[1]!;
  if (channels !== wanted) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the latents: they have ${channels} channels, ${name} takes ${wanted}`,
      {
        hint: `Encode the pictures with the VAE that belongs to the transformer: qedit encode-image ${param("vae", "FILE")}`,
      },
    );
  }
  return (info.settings["latent_statistics"] as LatentStatistics | undefined) ?? latentStatistics({}, channels);
}

/** The embeddings that a run at a scale reads. Throws QEDIT_E_ARTIFACT for those of another width than a transformer's, whose file is `name`, and where the negative ones are missing. */
export function promptEmbeds(
  { tensors }: Artifact,
  { cfg, width, name }: { readonly cfg: number; readonly width: number; readonly name: string },
): Embeds {
  const { prompt_embeds: positive, negative_prompt_embeds: negative } = tensors;
  if (positive!.shape[2] !== width) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the prompt's embeddings: they are ${positive!.shape[2]} wide, ${name} takes ${width}`,
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
  return { positive: positive!, negative: usesNegative(cfg) ? negative : undefined };
}

interface Work {
  readonly sampling: SampleSettings;
  readonly config: TransformerConfig;
  readonly file: ModelHandle;
  readonly loras: readonly ActiveLora[];
  readonly compute: DType;
  readonly context: StageContext;
}

type Conditions = { readonly latents: Artifact; readonly embeds: Embeds; readonly statistics: LatentStatistics };

async function samplePicture(
  { latents, embeds, statistics }: Conditions,
  { sampling: parameters, context, ...transformer }: Work,
): Promise<Tensor<"float32">> {
  const { emit, signal } = context;
  const sampling = samplingOf(parameters);
  const latent = latents.tensors["latent"]!;
  const references = referenceLatents(latents).map((each) => normalisedLatent(each, statistics));
  const conditions = { shape: latent.shape, references, embeds, config: transformer.config };
  const run = { sigmas: await evaluatedSigmas(sampling), lengths: tokenLengths(conditions) };
  return withTransformer({ ...transformer, ...run }, context, (opened) => {
    const velocity = velocityOf(opened, conditions);
    let before = performance.now();
    const onStep = ({ step, total }: { step: number; total: number }, denoised: Float32Array) => {
      const now = performance.now();
      emit({ kind: "step", step, total, seconds: (now - before) / 1000 });
      before = now;
      context.onDenoised?.(float32(latent.shape, denoised as Float32Array<ArrayBuffer>));
    };
    emit({ kind: "step", step: 0, total: samplingSigmas(sampling).length - 1, seconds: 0 });
    return sampleLatent(velocity, sampling, { latent, mean: statistics.mean, std: statistics.std, onStep, signal });
  });
}

/** The reference latents of `latents`, in order. */
export function referenceLatents({ tensors }: Artifact): Tensor<"float32">[] {
  const count = Object.keys(tensors).filter((name) => name.startsWith("reference_latents.")).length;
  return Array.from({ length: count }, (_, index) => tensors[`reference_latents.${index}`]!);
}

function recorded(
  sampling: Omit<SampleSettings, "dtype">,
  loras: readonly Pick<RecordedLora, "strength">[],
  computed: object,
): object {
  const { sampler, scheduler, steps, denoise, shift, cfg, cfgNorm, seed } = sampling;
  if (seed < 0n) throw new Error("internal: the seed was not drawn");
  return {
    version: sample.version,
    ...{ sampler, scheduler, steps, denoise, shift, cfg, cfgNorm },
    // JSON has no 64-bit numbers.
    seed: seed.toString(),
    ...givenOnly(sampling),
    sigmas: [...samplingSigmas(samplingOf(sampling))],
    noise: "torch-cpu-mt19937",
    noise_seed_offset: NOISE_SEED_OFFSET,
    ...computed,
    lora_strengths: loras.map(({ strength }) => strength),
  };
}

// Later parameters are recorded only where they were given, so that the results of earlier versions are found again.
function givenOnly({ lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod }: Omit<SampleSettings, "dtype">): object {
  const given = Object.entries({ lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod });
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}

function weightsOf(file: RecordedFile, loras: readonly RecordedFile[]): Record<string, string> {
  return {
    transformer: file.identity,
    ...Object.fromEntries(loras.map(({ identity }, index) => [`lora.${index}`, identity])),
  };
}

function namesOf(file: RecordedFile, loras: readonly RecordedFile[]): Record<string, string> {
  return { transformer: file.name, ...Object.fromEntries(loras.map(({ name }, index) => [`lora.${index}`, name])) };
}

/** A LoRA as records have it. */
export interface RecordedLora extends RecordedFile {
  readonly strength: number;
}

/** The record of `samples` by those of what they were made from; `computed` is what computedOn gives. */
export function samplesInfo(
  { latents, cond }: Readonly<Record<"latents" | "cond", ArtifactInfo>>,
  {
    transformer,
    loras,
    computed,
  }: { readonly transformer: RecordedFile; readonly loras: readonly RecordedLora[]; readonly computed: object },
  sampling: Omit<SampleSettings, "dtype">,
): ArtifactInfo {
  return {
    settings: { ...latents.settings, ...cond.settings, sample: recorded(sampling, loras, computed) },
    sizes: { ...latents.sizes, ...cond.sizes },
    inputs: { ...differing(cond.inputs, latents.inputs), ...cond.inputs, ...latents.inputs },
    weights: { ...latents.weights, ...cond.weights, ...weightsOf(transformer, loras) },
    names: { ...cond.names, ...latents.names, ...namesOf(transformer, loras) },
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
