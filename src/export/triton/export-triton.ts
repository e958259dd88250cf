// Exports a model as a repository of Triton Inference Server: graphs with the sampler's loop inside, over the weights of the model files.

import { clientNumbers } from "../../edit/remote/client-inputs.js";
import { conventionsOf, type ExportedFamilyName } from "../../edit/remote/exported-families.js";
import { checkEdit } from "../../edit/service/open-edit.js";
import { computeType, typeName } from "../../engine/providers.js";
import { transformerOf } from "../../models/transformers.js";
import { vaeStatistics } from "../../models/vaes.js";
import { usesNegative } from "../../sampling/guidance.js";
import { reportLora } from "../../stages/networks/loras.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { qeditVersion } from "../../std/version.js";
import { loadTokenizer, readTokenizerJson } from "../../text/tokenizer.js";
import { clientSettings, type ExportFacts, SETTINGS_FILE, TOKENIZER_FILE } from "./client-settings.js";
import { type Ensemble, ensembleOf } from "./ensembles.js";
import { exportMemory, memoryLimits } from "./export-memory.js";
import { exportReadme } from "./export-readme.js";
import type { TritonExport } from "./export-request.js";
import { exportedKinds } from "./exported-kinds.js";
import type { ExportedModel } from "./exported-model.js";
import { modelFacts } from "./model-facts.js";
import { writeRepository } from "./model-repository.js";
import { stageModels } from "./stage-models.js";
import { blankPicture, editWarmups } from "./warm-up-requests.js";
import type { PlacedWeights } from "./weight-files.js";
import { writeWholeFolder } from "./whole-folder.js";

/**
 * The scale of ensembles with guidance where the model's own settings have none: as ComfyUI's template for Qwen-Image-Edit-2509. Qwen-Image-2.1 is meant
 * to be sampled without guidance (diffusers 0.42.1, QwenImage21Pipeline): no scale is published.
 */
const GUIDANCE: Readonly<Record<ExportedFamilyName, number | undefined>> = {
  "qwen-image-edit": 2.5,
  "qwen-image-2.1": undefined,
};

/** Pixels along a side of the picture that files are checked with. */
const SIDE = 64;

/** How it is written. */
export interface ExportOptions {
  readonly force: boolean;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Checks the folder before it is put in its place; it is removed when this throws. */
  readonly verify?: (folder: string, exported: TritonExport) => Promise<void>;
}

/** An exported folder. */
export interface Exported extends PlacedWeights {
  readonly models: readonly string[];
  readonly ensembles: readonly string[];
}

/**
 * Writes an export to a folder, whole or not at all. Throws QEDIT_E_EXISTS, QEDIT_E_IO, QEDIT_E_MEMORY when the weights do not fit `vram`, and what
 * `verify` throws.
 */
export async function exportTriton(
  path: string,
  request: TritonExport,
  { force, emit, signal, verify }: ExportOptions,
): Promise<Exported> {
  await refuseUnrunnable(request);
  for (const lora of request.models.loras) reportLora(lora, emit);
  return writeWholeFolder(path, { force, mark: SETTINGS_FILE }, async (folder) => {
    emit({ kind: "activity", text: "building the graphs" });
    const models = modelsOf(request);
    const ensembles = ensemblesOf(models, request);
    const facts = factsOf(request, models, ensembles);
    const { vocabulary } = conventionsOf(facts.numbers.family);
    const tokenizer = await loadTokenizer(vocabulary);
    const memory = exportMemory(models, { ...request, tokenizer });
    const limits = request.vram === undefined ? undefined : memoryLimits(request.vram, memory);
    const placed = await writeRepository(
      folder,
      {
        models,
        ensembles,
        placement: { gpus: request.gpus, memoryLimits: limits },
        warmups: editWarmups(models, request, tokenizer),
        facts: await modelFacts(
          [...models, ...ensembles].map(({ name }) => name),
          request,
        ),
        files: new Map([
          ["README.md", exportReadme({ ...facts, gpus: request.gpus, memory, memoryLimits: limits })],
          [SETTINGS_FILE, clientSettings(facts)],
          [TOKENIZER_FILE, JSON.stringify(await readTokenizerJson(vocabulary))],
        ]),
      },
      { emit, signal },
    );
    await verify?.(folder, request);
    return { ...placed, models: models.map(({ name }) => name), ensembles: ensembles.map(({ name }) => name) };
  });
}

// What an edit by these files would be refused for.
async function refuseUnrunnable({ models, settings, images, device }: TritonExport): Promise<void> {
  const { family, mostPictures } = transformerOf(numbersOf(models.transformer.checkpoint), models.transformer.config);
  if (images > mostPictures)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot export for ${images} pictures: ${family} takes ${mostPictures} at most`,
      { hint: `Use ${param("images", mostPictures)}, or leave it out`, parameter: "images" },
    );
  const pictures = [blankPicture(SIDE)];
  await checkEdit({ pictures, mask: undefined }, { models, settings: { ...settings, allowEmptyPrompt: true } }, device);
}

function modelsOf({ models, settings, images, hasCfg, device }: TritonExport): ExportedModel[] {
  const { cfgNorm, referenceMethod } = settings;
  const compute = {
    vae: computeType(device, "vae", settings.vaeDtype),
    textEncoder: computeType(device, "text-encoder", settings.textDtype),
    transformer: computeType(device, "transformer", settings.dtype),
  };
  return stageModels(models, { images, hasCfg, cfgNorm, referenceMethod, compute, device });
}

function ensemblesOf(models: readonly ExportedModel[], exported: TritonExport): Ensemble[] {
  const byName = new Map(models.map((model) => [model.name, model]));
  return exportedKinds(exported).map((kind) => ensembleOf(kind, byName));
}

function factsOf(
  { model, models, settings, device }: TritonExport,
  exported: readonly ExportedModel[],
  ensembles: readonly Ensemble[],
): ExportFacts {
  const { vae, textEncoder, transformer, loras } = models;
  const numbers = clientNumbers(models);
  const { shift, cfgNorm, steps, cfg, scheduler, sigmas, megapixels = 1 } = settings;
  return {
    version: qeditVersion(),
    model,
    weights: {
      vae: { file: vae.name, identity: vae.identity },
      text_encoder: { file: textEncoder.name, identity: textEncoder.identity },
      transformer: { file: transformer.name, identity: transformer.identity },
      ...Object.fromEntries(
        loras.map(({ name, identity, strength }, index) => [`lora.${index}`, { file: name, identity, strength }]),
      ),
    },
    compute: {
      vae: typeName(computeType(device, "vae", settings.vaeDtype)),
      text_encoder: typeName(computeType(device, "text-encoder", settings.textDtype)),
      transformer: typeName(computeType(device, "transformer", settings.dtype)),
    },
    device: device.provider,
    sampling: {
      sampler: "euler",
      scheduler,
      shift,
      cfgNorm,
      steps,
      sigmas,
      cfg: usesNegative(cfg) ? cfg : GUIDANCE[numbers.family],
    },
    megapixels,
    numbers,
    statistics: vaeStatistics(numbersOf(vae.checkpoint), vae.config),
    models: exported,
    ensembles,
  };
}
