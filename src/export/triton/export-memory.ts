// Memory of the exported models, by the arithmetic of `qedit plan`.

import { editLengths } from "../../edit/plan/edit-lengths.js";
import { type EditMemory, editMemory } from "../../edit/plan/edit-memory.js";
import { plannedNetworks } from "../../edit/plan/networks.js";
import type { LocalModels, ResolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { computeType, type Device } from "../../engine/providers.js";
import { ELEMENT } from "../../graph/types.js";
import type { NetworkId } from "../../models/network-id.js";
import { transformerOf } from "../../models/transformers.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { sampledTokens, transformerNeeds } from "../../stages/networks/transformer-plan.js";
import { binarySize } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import { type ModelMemory, totalMemory } from "./export-readme.js";
import type { ExportedModel } from "./exported-model.js";

/** Pictures of a size that most cameras give in shape. */
const PICTURE = { name: "picture", width: 4000, height: 3000 };

/** Networks of each exported model that has weights. */
const NETWORKS: Readonly<Record<string, readonly NetworkId[]>> = {
  encode_image: ["vae-encoder"],
  encode_prompt: ["vision-tower", "language-model"],
  sample: ["transformer"],
  sample_cfg: ["transformer"],
  decode: ["vae-decoder"],
};

/** The edit that memory is planned for. */
export interface MemoryRequest {
  readonly models: LocalModels;
  readonly settings: ResolvedSettings;
  readonly device: Device;
  /** Pictures of the largest ensemble. */
  readonly images: number;
  readonly tokenizer: PromptTokenizer;
}

/**
 * Memory of the models of an export with weights, for an edit of the default size. Weights are those of the graphs: they hold what the stages of qedit
 * keep out of theirs, the modulation and the token embeddings.
 */
export function exportMemory(models: readonly ExportedModel[], request: MemoryRequest): ModelMemory[] {
  const { networks, kept } = plannedMemory(request);
  return models.flatMap(({ name, graph, inputs }) => {
    const own = networks.filter(({ network }) => NETWORKS[name]?.includes(network));
    if (own.length === 0) return [];
    const weights = [...graph.externals.values()].reduce((sum, { length }) => sum + length, 0);
    const prompts = inputs.filter((input) => input.name.endsWith("prompt_embeds")).length;
    const activations = Math.max(...own.map((network) => network.activations)) + prompts * kept;
    return [{ model: name, weights, activations }];
  });
}

/**
 * Bytes beside its weights that each model may take within `vram` of a GPU that holds all of them: what is left beside all weights, shared by what each
 * needs, since a model keeps what a run took. Throws QEDIT_E_MEMORY when they do not fit.
 */
export function memoryLimits(vram: number, memory: readonly ModelMemory[]): ReadonlyMap<string, number> {
  const { weights, activations } = totalMemory(memory);
  const left = vram - weights;
  if (left < activations)
    throw new QeditError(
      "QEDIT_E_MEMORY",
      `Cannot export for ${binarySize(vram)}: the models need ${binarySize(weights)} for weights, which all stay open, and ${binarySize(activations)} for runs`,
      { hint: `Serve it on a GPU with more memory, or run \`qedit serve\` there, which opens one network at a time` },
    );
  return new Map(memory.map((each) => [each.model, Math.floor((left * each.activations) / activations)]));
}

// The memory of networks, and of the keys and values of a prompt and references that a run keeps on the device, in its compute type.
function plannedMemory({
  models,
  settings,
  device,
  images,
  tokenizer,
}: MemoryRequest): Pick<EditMemory, "networks"> & { readonly kept: number } {
  const { vae, textEncoder, transformer, loras } = models;
  const parts = { vae, textEncoder, transformer };
  const adapters = loras.map(({ adapter }) => adapter);
  const limit = { device, vram: undefined };
  const planned = plannedNetworks({ parts, adapters }, { ...settings, ...limit, references: images });
  const sources = Array.from({ length: images }, () => PICTURE);
  const lengths = editLengths(sources, { settings, networks: planned, tokenizer });
  const { networks } = editMemory(lengths, { parts, adapters, types: settings, limit });
  const network = transformerOf(numbersOf(transformer.checkpoint), transformer.config, settings);
  const compute = computeType(device, "transformer", settings.dtype);
  const { keptWidth = 0, blocks } = network;
  const { tokens } = sampledTokens(lengths.tokens);
  const { text, references } = tokens;
  // The plan of qedit keeps what this machine has room for, the graph all of it.
  const sized = { file: transformer, network, compute, loras, tokens };
  const evaluated = keptWidth > 0 ? (["prefix", "step"] as const) : (["whole"] as const);
  const activations = Math.max(...evaluated.map((part) => transformerNeeds(sized, device, part).activations));
  const prefix = references.reduce((sum, count) => sum + count, text);
  const { bytes } = ELEMENT[compute];
  return {
    networks: networks.map((each) => (each.network === "transformer" ? { ...each, activations } : each)),
    kept: prefix * keptWidth * blocks * bytes,
  };
}
