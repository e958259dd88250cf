// sample: from noise to latents under a prompt and reference latents, one evaluation of the transformer after another.
import { type Artifact, artifactHash } from "../artifacts/artifact.js";
import { deviceIdentity } from "../engine/device-identity.js";
import { computeType, type Device } from "../engine/providers.js";
import type { Model } from "../engine/sessions/engine.js";
import type { DType } from "../graph/types.js";
import {
  type LatentStatistics,
  latentStatistics,
  type TransformerConfig,
  transformerConfig,
} from "../models/qwen-image/transformer-config.js";
import { NOISE_SEED_OFFSET, sampleLatent, samplingSigmas } from "../sampling/driver.js";
import { evaluatedSigmas } from "../sampling/evaluated.js";
import { usesNegative } from "../sampling/guidance.js";
import { SAMPLER_NAMES } from "../sampling/samplers.js";
import { SCHEDULER_NAMES } from "../sampling/schedules.js";
import { QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";
import { computedOn } from "./computed-on.js";
import { refuseNonFinite } from "./finite.js";
import { matchLoras, type RidingLora } from "./networks/loras.js";
import { type NetworkFile, numbersOf, readNetworkFile } from "./networks/network-file.js";
import { wholeTransformer, withTransformer } from "./networks/open-transformer.js";
import { type Embeds, normalisedLatent, tokenLengths, velocityOf } from "./networks/velocity.js";
import { choice, flag, number, repeated, type SettingsOf, seed, text } from "./option.js";
import { type ResolvedSampling, resolveSampling } from "./sampling-defaults.js";
import { defineArtifactStage, type StageContext, type StageLengths } from "./stage.js";

const options = {
  transformer: text({
    flags: "--transformer, --unet <file>",
    summary: "diffusion transformer, such as qwen_image_edit_2509_fp8_e4m3fn.safetensors",
    group: "Models",
  }),
  lora: repeated({
    flags: "--lora <file[:strength]>",
    summary: "LoRA on the transformer, strength 1 unless given; repeatable",
    group: "Models",
  }),
  strictLora: flag({ flags: "--strict-lora", summary: "refuse a LoRA with keys that fit nothing", group: "Models" }),
  seed: seed({
    flags: "--seed <number>",
    summary: "seed of the noise, the same as torch's and ComfyUI's; random draws one",
    group: "Sampling",
  }),
  steps: number(
    {
      flags: "--steps <count>",
      summary: "evaluations of the transformer",
      group: "Sampling",
      initialText: "20; with a Lightning LoRA what it was made for",
    },
    { minimum: 1, maximum: 10_000, whole: true, initial: undefined },
  ),
  cfg: number(
    {
      flags: "--cfg <scale>",
      summary: "how strongly to follow the prompt over the negative one",
      group: "Sampling",
      initialText: "2.5; 1 with a Lightning LoRA",
    },
    { minimum: 0, maximum: 100, initial: undefined },
  ),
  sampler: choice(
    { flags: "--sampler <name>", summary: "how to step from one noise level to the next", group: "Sampling" },
    SAMPLER_NAMES,
    "euler",
  ),
  scheduler: choice(
    { flags: "--scheduler <name>", summary: "how to space the noise levels", group: "Sampling" },
    SCHEDULER_NAMES,
    "simple",
  ),
  shift: number(
    { flags: "--shift <number>", summary: "shift of the noise levels, as ModelSamplingAuraFlow", group: "Sampling" },
    { minimum: 0.01, maximum: 100, initial: 3 },
  ),
  denoise: number(
    {
      flags: "--denoise <share>",
      summary: "share of the schedule to run; below 1 starts from picture 1",
      group: "Sampling",
    },
    { minimum: 0, maximum: 1, initial: 1 },
  ),
  cfgNorm: number(
    { flags: "--cfg-norm <strength>", summary: "strength of CFGNorm", group: "Sampling" },
    { minimum: 0, maximum: 100, initial: 1 },
  ),
  dtype: choice(
    { flags: "--dtype <type>", summary: "compute type of the transformer", group: "Device" },
    ["auto", "float32", "bfloat16"],
    "auto",
  ),
};

type Settings = SettingsOf<typeof options>;
type Inputs = { readonly latents: Artifact; readonly cond: Artifact };

/** `latents` and `cond` → `samples`: `latent_tensor` [1, 16, h, w], un-normalised. */
export const sample = defineArtifactStage({
  name: "sample",
  summary: "Sample a latent under a prompt and reference latents",
  version: 1,
  inputs: { latents: "what encode-image made", cond: "what encode-prompt made" },
  output: "samples",
  options,
  async check(_pictures: unknown, settings: Settings, device: Device): Promise<StageLengths> {
    computeType(device, "transformer", settings.dtype);
    samplingSigmas(resolveSampling(settings));
    const { checkpoint, config } = await transformerFile(settings);
    const numbers = transformerConfig(numbersOf(checkpoint), config);
    await matchLoras(settings, checkpoint);
    return { "latent channels": latentChannels(numbers), "prompt width": numbers.textWidth };
  },
  async announce(_inputs: Inputs, settings: Settings, emit) {
    const { checkpoint } = await transformerFile(settings);
    for (const lora of await matchLoras(settings, checkpoint)) lora.report(emit);
  },
  async identity({ latents, cond }: Inputs, settings: Settings, device) {
    const file = await transformerFile(settings);
    const loras = await matchLoras(settings, file.checkpoint);
    const compute = computeType(device, "transformer", settings.dtype);
    return {
      inputs: { latents: artifactHash(latents), cond: artifactHash(cond) },
      settings: recorded(resolveSampling(settings), { loras, compute, device }),
      weights: weightsOf(file, loras),
      names: namesOf(file, loras),
      device: deviceIdentity(device),
    };
  },
  async run({ latents, cond }: Inputs, settings: Settings, context: StageContext): Promise<Artifact> {
    const sampling = resolveSampling(settings);
    const file = await transformerFile(settings);
    const config = transformerConfig(numbersOf(file.checkpoint), file.config);
    const embeds = promptEmbeds(cond, { sampling, config, file });
    const loras = await matchLoras(settings, file.checkpoint);
    const statistics = statisticsOf(latents, { config, file });
    const compute = computeType(context.engine.device, "transformer", settings.dtype);
    const work = { sampling, config, file, loras, compute, context };
    const latent = await samplePicture({ latents, embeds, statistics }, work);
    refuseNonFinite(latent, "the samples");
    return { kind: "samples", tensors: { latent_tensor: latent }, info: infoOf({ latents, cond }, work) };
  },
});

/** The transformer's graph as `sample` opens it where all of it fits. */
export async function sampledModel(settings: Settings, context: StageContext): Promise<Model> {
  const file = await transformerFile(settings);
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const compute = computeType(context.engine.device, "transformer", settings.dtype);
  return wholeTransformer({ file, config, compute, loras: await matchLoras(settings, file.checkpoint) }, context);
}

function transformerFile({ transformer }: Settings): Promise<NetworkFile> {
  return readNetworkFile(transformer, { name: "transformer", option: "--transformer" });
}

function latentChannels({ patchWidth, patchSize }: TransformerConfig): number {
  return patchWidth / patchSize ** 2;
}

// The VAE's, as encode-image noted them; the published ones for latents of other tools.
function statisticsOf(
  { tensors, info }: Artifact,
  { config, file }: { config: TransformerConfig; file: NetworkFile },
): LatentStatistics {
  const channels = tensors["latent"]!.shape[1]!;
  const wanted = latentChannels(config);
  if (channels !== wanted) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the latents: they have ${channels} channels, ${file.checkpoint.file} takes ${wanted}`,
      {
        hint: "Encode the pictures with the VAE that belongs to the transformer: qedit encode-image --vae FILE",
      },
    );
  }
  return (info.settings["latent_statistics"] as LatentStatistics | undefined) ?? latentStatistics({}, channels);
}

function promptEmbeds(
  { tensors }: Artifact,
  { sampling, config, file }: { sampling: ResolvedSampling; config: TransformerConfig; file: NetworkFile },
): Embeds {
  const { prompt_embeds: positive, negative_prompt_embeds: negative } = tensors;
  if (positive!.shape[2] !== config.textWidth) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot use the prompt's embeddings: they are ${positive!.shape[2]} wide, ${file.checkpoint.file} takes ${config.textWidth}`,
      {
        hint: "Encode the prompt with the text encoder that belongs to the transformer: qedit encode-prompt --text-encoder FILE",
      },
    );
  }
  if (usesNegative(sampling.cfg) && negative === undefined) {
    throw new QeditError(
      "QEDIT_E_ARTIFACT",
      `Cannot sample at cfg ${sampling.cfg}: the prompt was encoded without a negative prompt`,
      {
        hint: 'Add --negative-prompt "" to `qedit encode-prompt`, or sample with --cfg 1',
      },
    );
  }
  return { positive: positive!, negative: usesNegative(sampling.cfg) ? negative : undefined };
}

interface Work {
  readonly sampling: ResolvedSampling;
  readonly config: TransformerConfig;
  readonly file: NetworkFile;
  readonly loras: readonly RidingLora[];
  readonly compute: DType;
  readonly context: StageContext;
}

type Conditions = { readonly latents: Artifact; readonly embeds: Embeds; readonly statistics: LatentStatistics };

async function samplePicture(
  { latents, embeds, statistics }: Conditions,
  { sampling, context, ...transformer }: Work,
): Promise<Tensor<"float32">> {
  const { emit, signal } = context;
  const latent = latents.tensors["latent"]!;
  const references = referenceLatents(latents).map((each) => normalisedLatent(each, statistics));
  const conditions = { shape: latent.shape, references, embeds, config: transformer.config };
  const run = { sigmas: await evaluatedSigmas(sampling), lengths: tokenLengths(conditions) };
  return withTransformer({ ...transformer, ...run }, context, (opened) => {
    const velocity = velocityOf(opened, conditions);
    let before = performance.now();
    const onStep = ({ step, total }: { step: number; total: number }) => {
      const now = performance.now();
      emit({ kind: "step", step, total, seconds: (now - before) / 1000 });
      before = now;
    };
    emit({ kind: "step", step: 0, total: samplingSigmas(sampling).length - 1, seconds: 0 });
    return sampleLatent(velocity, sampling, { latent, mean: statistics.mean, std: statistics.std, onStep, signal });
  });
}

function referenceLatents({ tensors }: Artifact): Tensor<"float32">[] {
  const count = Object.keys(tensors).filter((name) => name.startsWith("reference_latents.")).length;
  return Array.from({ length: count }, (_, index) => tensors[`reference_latents.${index}`]!);
}

function recorded(
  sampling: ResolvedSampling,
  { loras, compute, device }: Pick<Work, "loras" | "compute"> & { device: Device },
): object {
  const { seed: number, ...numbers } = sampling;
  if (number < 0n) throw new Error("internal: the seed was not drawn");
  return {
    version: sample.version,
    ...numbers,
    // JSON has no 64-bit numbers.
    seed: number.toString(),
    sigmas: [...samplingSigmas(sampling)],
    noise: "torch-cpu-mt19937",
    noise_seed_offset: NOISE_SEED_OFFSET,
    ...computedOn(device, compute),
    lora_strengths: loras.map(({ strength }) => strength),
  };
}

function weightsOf(file: NetworkFile, loras: readonly RidingLora[]): Record<string, string> {
  return {
    transformer: file.identity,
    ...Object.fromEntries(loras.map(({ identity }, index) => [`lora.${index}`, identity])),
  };
}

function namesOf(file: NetworkFile, loras: readonly RidingLora[]): Record<string, string> {
  return { transformer: file.name, ...Object.fromEntries(loras.map(({ name }, index) => [`lora.${index}`, name])) };
}

function infoOf({ latents, cond }: Inputs, { sampling, file, loras, compute, context }: Work): Artifact["info"] {
  return {
    settings: {
      ...latents.info.settings,
      ...cond.info.settings,
      sample: recorded(sampling, { loras, compute, device: context.engine.device }),
    },
    sizes: { ...latents.info.sizes, ...cond.info.sizes },
    inputs: { ...differing(cond.info.inputs, latents.info.inputs), ...cond.info.inputs, ...latents.info.inputs },
    weights: {
      ...latents.info.weights,
      ...cond.info.weights,
      ...weightsOf(file, loras),
    },
    names: {
      ...cond.info.names,
      ...latents.info.names,
      ...namesOf(file, loras),
    },
  };
}

// Pictures that the prompt was encoded with, where they are not those of the latents: `prompt.image.1`.
function differing(
  prompt: Readonly<Record<string, string>>,
  latents: Readonly<Record<string, string>>,
): Record<string, string> {
  const others = Object.entries(prompt).filter(([role, hash]) => ![hash, undefined].includes(latents[role]));
  return Object.fromEntries(others.map(([role, hash]) => [`prompt.${role}`, hash]));
}
