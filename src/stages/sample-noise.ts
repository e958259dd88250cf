// The sample stage where noise and noise levels are given: Euler's method, as the loop of an exported sampler runs it.
import { type Artifact, artifactHash } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import type { DType } from "../graph/types.js";
import { sampleNoise } from "../sampling/driver.js";
import type { Tensor } from "../std/tensor.js";
import { tensorHash } from "../std/tensor-hash.js";
import { computedOn } from "./computed-on.js";
import { type ActiveLora, reportLora } from "./networks/loras.js";
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
import { scheduledEvaluations } from "./networks/transformer-plan.js";
import type { ArtifactStage } from "./stage.js";

/** The parameters of sampling that count where noise and noise levels are given. */
export interface SampleNoiseSettings {
  readonly cfg: number;
  /** "none": no CFGNorm. */
  readonly cfgNorm: number | "none";
  readonly dtype: string;
  /** One of REFERENCE_METHODS; undefined: what the transformer was made for. */
  readonly referenceMethod?: string | undefined;
}

interface NoiseInputs extends SampledInputs {
  /** Normalised, of the shape of the result's latent. */
  readonly noise: Tensor<"float32">;
  /** See NoiseRun. */
  readonly sigmas: Float32Array;
}

/** The stage with given noise and noise levels, by Euler's method: its result has the size of the noise. */
export const sampleGivenNoise: ArtifactStage<NoiseInputs, SampledModels, SampleNoiseSettings> = {
  name: "sample",
  summary: "Sample given noise under a prompt and reference latents",
  version: 1,
  inputs: {
    ...{ latents: "what encode-image made", cond: "what encode-prompt made" },
    ...{ noise: "what is sampled", sigmas: "noise levels, falling" },
  },
  output: "samples",
  parameters: ["cfg", "cfgNorm", "dtype", "referenceMethod"],
  async check(_pictures, { models: { transformer }, settings }, device): Promise<void> {
    computeType(device, "transformer", settings.dtype);
    sampledTransformer(transformer, settings);
  },
  announce({ models: { loras } }, emit) {
    for (const lora of loras) reportLora(lora, emit);
  },
  identity({ inputs: { latents, cond, noise, sigmas }, models: { transformer, loras }, settings }, device) {
    const compute = computeType(device, "transformer", settings.dtype);
    return {
      inputs: { latents: artifactHash(latents), cond: artifactHash(cond), noise: tensorHash(noise) },
      settings: recordedOfNoise({ ...settings, sigmas }, { loras, compute, device }),
      weights: sampledWeights({ transformer, loras }),
      states: [transformer, ...loras].map(({ states }) => states),
      names: sampledNames({ transformer, loras }),
      device: deviceIdentity(device),
    };
  },
  async run({ inputs, models, settings }, context): Promise<Artifact> {
    const { transformer: file, loras } = models;
    const { latents, cond, noise, sigmas } = inputs;
    const named = { network: sampledTransformer(file, settings), name: file.checkpoint.file };
    const prompts = usedPrompts(cond, { ...named, cfg: settings.cfg });
    const statistics = recordedStatistics(latents, named);
    const compute = computeType(context.engine.device, "transformer", settings.dtype);
    const evaluations = scheduledEvaluations({ steps: sigmas.length - 1, cfg: settings.cfg });
    const transformer = { network: named.network, file, loras, compute, context, evaluations };
    const conditions = { references: referenceLatents(latents), prompts, statistics };
    const { cfg, cfgNorm } = settings;
    const run: PictureRun = {
      shape: noise.shape,
      steps: sigmas.length - 1,
      evaluated: [...sigmas.subarray(0, -1)],
      sample: (velocity, input) =>
        sampleNoise(velocity, { noise, sigmas, cfg, cfgNorm: cfgNorm === "none" ? undefined : cfgNorm }, input),
    };
    const { latent } = await checkedSamples(samplePicture(run, conditions, transformer), loras);
    const recorded = recordedOfNoise({ ...settings, sigmas }, { loras, compute, device: context.engine.device });
    return {
      kind: "samples",
      tensors: { latent_tensor: latent },
      info: samplesInfo({ latents: latents.info, cond: cond.info }, models, { settings: recorded }),
    };
  },
};

function recordedOfNoise(
  { cfg, cfgNorm, referenceMethod, sigmas }: SampleNoiseSettings & Pick<NoiseInputs, "sigmas">,
  { loras, compute, device }: { loras: readonly ActiveLora[]; compute: DType; device: Device },
): object {
  return {
    version: sampleGivenNoise.version,
    ...{ sampler: "euler", cfg, cfgNorm, sigmas: [...sigmas], noise: "given" },
    ...(referenceMethod !== undefined && { referenceMethod }),
    ...computedOn(device, compute),
    lora_strengths: loras.map(({ strength }) => strength),
  };
}
