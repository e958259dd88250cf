// What the configurations of exported models say the models are, for qedit as their client.
import { knownHash } from "../../catalog/local/known-hash.js";
import { clientNumbers } from "../../edit/remote/client-inputs.js";
import { type FactsOfExport, factsText } from "../../edit/remote/exported-facts.js";
import { computeType } from "../../engine/providers.js";
import { runtimeVersion } from "../../engine/sessions/runtime-version.js";
import { RGBA_CHANNELS } from "../../image/image.js";
import { transformerConfig } from "../../models/qwen-image/transformer-config.js";
import { transformerOf } from "../../models/transformers.js";
import { vaeStatistics } from "../../models/vaes.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { qeditVersion } from "../../std/version.js";
import type { TritonExport } from "./export-request.js";

type Weights = FactsOfExport["weights"];

/** The files that a model computes with, by the beginning of their roles; all of them for an ensemble. */
const ROLES: Readonly<Record<string, RegExp>> = {
  encode_image: /^vae$/,
  encode_prompt: /^text_encoder$/,
  sample: /^(transformer|lora\.\d+)$/,
  sample_cfg: /^(transformer|lora\.\d+)$/,
  decode: /^vae$/,
};
const JOIN = /^join_\d+$/;

/** The text for each model, by name. */
export async function modelFacts(
  names: readonly string[],
  request: TritonExport,
): Promise<ReadonlyMap<string, string>> {
  const facts = await factsOfExport(request);
  return new Map(
    names.map((name) => {
      const isOwn = (role: string) => !JOIN.test(name) && (ROLES[name]?.test(role) ?? true);
      const weights = Object.fromEntries(Object.entries(facts.weights).filter(([role]) => isOwn(role)));
      return [name, factsText({ ...facts, weights })];
    }),
  );
}

async function factsOfExport(request: TritonExport): Promise<FactsOfExport> {
  const { model, models, settings, images, hasCfg, device } = request;
  const { scheduler, shift, steps, cfgNorm, referenceMethod } = settings;
  const { family, patches, cell, latentChannels, imageChannels } = clientNumbers(models);
  const { patch, temporal, merge } = patches;
  const { transformer } = models;
  const { patchSize } = transformerOf(numbersOf(transformer.checkpoint), transformer.config);
  const { mean, std } = vaeStatistics(numbersOf(models.vae.checkpoint), models.vae.config);
  return {
    qedit: qeditVersion(),
    ...{ family, model },
    weights: await weightsOf(request),
    compute: {
      vae: computeType(device, "vae", settings.vaeDtype) as "f32",
      text_encoder: computeType(device, "text-encoder", settings.textDtype) as "f32",
      transformer: computeType(device, "transformer", settings.dtype) as "f32",
    },
    device: device.provider,
    runtime: runtimeVersion(),
    ...{ images, guidance: hasCfg },
    sampling: {
      ...{ sampler: "euler", scheduler, shift, steps, cfg_norm: cfgNorm },
      ...(family === "qwen-image-edit" && {
        reference_method: methodOf(transformer, referenceMethod),
        own_reference_method: methodOf(transformer, undefined),
      }),
    },
    ...{ patches: { patch, temporal, merge }, cell, latent_channels: latentChannels, token_side: patchSize },
    ...(imageChannels === RGBA_CHANNELS && { image_channels: RGBA_CHANNELS }),
    statistics: { mean: [...mean], std: [...std] },
  };
}

async function weightsOf({ models, files }: TritonExport): Promise<Weights> {
  const { vae, textEncoder, transformer, loras } = models;
  const entry = async ({ name: file, identity }: { name: string; identity: string }, path: string | undefined) => {
    const sha256 = path === undefined ? undefined : await knownHash(path);
    return { file, identity, ...(sha256 !== undefined && { sha256 }) };
  };
  const weights: Record<string, Weights[string]> = {
    vae: await entry(vae, files.vae),
    text_encoder: await entry(textEncoder, files.textEncoder),
    transformer: await entry(transformer, files.transformer),
  };
  for (const [index, lora] of loras.entries())
    weights[`lora.${index}`] = { ...(await entry(lora, lora.file)), strength: lora.strength };
  return weights;
}

function methodOf(
  { checkpoint, config }: ModelHandle,
  referenceMethod: string | undefined,
): FactsOfExport["sampling"]["reference_method"] {
  const { referencesAtZero, referencesInOneFrame } = transformerConfig(numbersOf(checkpoint), config, {
    referenceMethod,
  });
  if (referencesInOneFrame) return "offset";
  return referencesAtZero ? "index_timestep_zero" : "index";
}
