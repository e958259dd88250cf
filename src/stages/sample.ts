// The sample stage: denoises a latent under a prompt and reference latents.
import { type Artifact, artifactHash, floatTensor } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType } from "../engine/providers.js";
import type { Model } from "../engine/sessions/engine.js";
import type { Transformer } from "../models/transformer-family.js";
import { NOISE_SEED_OFFSET, type SamplingSettings, sampleLatent, samplingSigmas } from "../sampling/driver.js";
import { evaluatedSigmas } from "../sampling/evaluated.js";
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { reportLora } from "./networks/loras.js";
import { wholeTransformer } from "./networks/open-transformer.js";
import { refuseMissingKernel } from "./networks/packed-kernel.js";
import { type PictureRun, samplePicture } from "./networks/sample-picture.js";
import {
  checkedSamples,
  recordedStatistics,
  referenceLatents,
  type SampledInputs,
  type SampledModels,
  sampledNames,
  sampledTransformer,
  sampledWeights,
  samplesInfo,
  usedPrompts,
} from "./networks/sampled-parts.js";
import { type SizedTransformer, scheduledEvaluations } from "./networks/transformer-plan.js";
import type { ArtifactStage, StageConfig, StageContext, StageInput } from "./stage.js";

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
  /** The threshold of a step cache, see StepCacheOptions; undefined: none. */
  readonly stepCache?: number | undefined;
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

/** `latents` and `cond` → `samples`: `latent_tensor` [1, 16, h, w], un-normalised. */
export const sample: ArtifactStage<SampledInputs, SampledModels, SampleSettings> = {
  name: "sample",
  summary: "Sample a latent under a prompt and reference latents",
  version: 1,
  inputs: { latents: "what encode-image made", cond: "what encode-prompt made" },
  output: "samples",
  parameters: [
    ...(["seed", "steps", "cfg", "sampler", "scheduler", "shift", "sigmas", "denoise", "cfgNorm"] as const),
    ...(["lcmNoise", "lcmNoiseEnd", "lcmNoiseClip", "referenceMethod", "dtype", "stepCache"] as const),
  ],
  async check(_pictures, { models: { transformer }, settings }, device): Promise<void> {
    await refuseMissingKernel(transformer.checkpoint, computeType(device, "transformer", settings.dtype), device);
    samplingSigmas(samplingOf(settings));
    const network = sampledTransformer(transformer, settings);
    if (settings.stepCache !== undefined) refuseSingleBlock(network, transformer.checkpoint.file);
  },
  announce({ models: { loras } }, emit) {
    for (const lora of loras) reportLora(lora, emit);
  },
  identity({ inputs: { latents, cond }, models: { transformer, loras }, settings }, device) {
    const compute = computeType(device, "transformer", settings.dtype);
    return {
      inputs: { latents: artifactHash(latents), cond: artifactHash(cond) },
      settings: recordedSampling(settings, loras, computedOn(device, compute)),
      weights: sampledWeights({ transformer, loras }),
      states: [transformer, ...loras].map(({ states }) => states),
      names: sampledNames({ transformer, loras }),
      device: deviceIdentity(device),
    };
  },
  async run(input, context): Promise<Artifact> {
    const { inputs, models, settings } = input;
    const { latents, cond } = inputs;
    const { transformer: file, loras } = models;
    const { network, prompts, statistics } = fittingInputs(input);
    const compute = computeType(context.engine.device, "transformer", settings.dtype);
    const { stepCache } = settings;
    const evaluations = evaluationsOf(settings);
    const transformer = { network, file, loras, compute, context, stepCache, evaluations };
    const references = referenceLatents(latents);
    const run = await runOf(settings, floatTensor(latents, "latent")!);
    const sampled = samplePicture(run, { references, prompts, statistics }, transformer);
    const { latent, evaluations: counts } = await checkedSamples(sampled, loras);
    const recorded = recordedSampling(settings, loras, computedOn(context.engine.device, compute));
    return {
      kind: "samples",
      tensors: { latent_tensor: latent },
      info: samplesInfo({ latents: latents.info, cond: cond.info }, models, {
        settings: recorded,
        evaluations: counts,
      }),
    };
  },
};

/** What a run takes of its inputs, from the transformer's header alone. Throws QEDIT_E_ARTIFACT for those that do not fit it, or the settings. */
export function fittingInputs({
  inputs: { latents, cond },
  models: { transformer },
  settings,
}: StageInput<SampledInputs, Pick<SampledModels, "transformer">, Pick<SampleSettings, "cfg" | "referenceMethod">>) {
  const network = sampledTransformer(transformer, settings);
  const named = { network, name: transformer.checkpoint.file };
  const prompts = usedPrompts(cond, { ...named, cfg: settings.cfg });
  return { network, prompts, statistics: recordedStatistics(latents, named) };
}

/** The transformer's graph that opens first for so many tokens if all of it fits. */
export function sampledModel(
  { models, settings }: StageConfig<SampledModels, SampleSettings>,
  context: StageContext,
  sizes: Pick<SizedTransformer, "tokens" | "hasNegative">,
): Promise<Model> {
  const { transformer: file, loras } = models;
  const network = sampledTransformer(file, settings);
  const compute = computeType(context.engine.device, "transformer", settings.dtype);
  const { stepCache } = settings;
  const evaluations = evaluationsOf(settings);
  return wholeTransformer({ file, network, compute, loras, stepCache, evaluations, ...sizes }, context);
}

/** How often the schedule of these settings evaluates the transformer, see scheduledEvaluations. */
export function evaluationsOf(settings: SamplingNumbers): number {
  return scheduledEvaluations({ steps: samplingSigmas(samplingOf(settings)).length - 1, cfg: settings.cfg });
}

function refuseSingleBlock({ blocks }: Transformer, file: string): void {
  if (blocks > 1) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("step_cache")} with ${file}: it has one block alone`, {
    hint: `Leave out ${param("step_cache")}`,
    parameter: "step_cache",
  });
}

// The run as the settings say.
async function runOf(parameters: SampleSettings, latent: Tensor<"float32">): Promise<PictureRun> {
  const sampling = samplingOf(parameters);
  return {
    shape: latent.shape,
    steps: samplingSigmas(sampling).length - 1,
    evaluated: await evaluatedSigmas(sampling),
    sample: (velocity, input) => sampleLatent(velocity, sampling, { ...input, latent }),
  };
}

/** The record of a run; `computed` is what computedOn gives. */
export function recordedSampling(
  sampling: Omit<SampleSettings, "dtype">,
  loras: readonly { readonly strength: number }[],
  computed: object,
): object {
  const { sampler, scheduler, steps, denoise, shift, sigmas, cfg, cfgNorm, seed } = sampling;
  if (seed < 0n) throw new Error("internal: the seed was not drawn");
  return {
    version: sample.version,
    // Given levels are the schedule: a record without a scheduler says so.
    ...(sigmas ? { sampler, steps, cfg, cfgNorm } : { sampler, scheduler, steps, denoise, shift, cfg, cfgNorm }),
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
function givenOnly(sampling: Omit<SampleSettings, "dtype">): object {
  const { lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod, stepCache } = sampling;
  const given = Object.entries({ lcmNoise, lcmNoiseEnd, lcmNoiseClip, referenceMethod, stepCache });
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}
