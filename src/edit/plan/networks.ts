// The graphs of an edit's networks, the same that its stages build.
import { type Adapter, Weights } from "../../checkpoint/weights.js";
import { computeType } from "../../engine/providers.js";
import type { Optimization } from "../../engine/sessions/engine.js";
import { wideningOf } from "../../engine/sessions/optimization.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import { type NetworkId, networkName } from "../../models/network-id.js";
import type { VisionNumbers } from "../../models/text-encoder-family.js";
import { buildLanguageModel, buildVisionTower, languageConfig, visionConfig } from "../../models/text-encoders.js";
import type { Transformer, TransformerPart } from "../../models/transformer-family.js";
import { transformerOf } from "../../models/transformers.js";
import type { VaeNumbers } from "../../models/vae-family.js";
import { buildVaeDecoder, buildVaeEncoder, vaeNumbers } from "../../models/vaes.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import {
  type StepCacheNeeds,
  type sampledTokens,
  stepCacheNeeds,
  transformerOpening,
} from "../../stages/networks/transformer-plan.js";
import type { MemoryLimit } from "../../stages/networks/within-memory.js";
import type { StageName } from "../../stages/stage.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { PlannedFiles } from "./model-files.js";

/** A network, and how it will be opened. */
export interface PlannedNetwork {
  readonly network: NetworkId;
  /** What of the network it is, where others are planned beside: "prefix" computes once what every step reads. */
  readonly part?: "prefix";
  readonly stage: StageName;
  readonly graph: Graph;
  readonly optimization: Optimization;
  readonly compute: DType;
}

/** The networks of an edit, and the configs that sizes depend on. */
export interface PlannedNetworks {
  readonly vaeEncoder: PlannedNetwork;
  readonly visionTower: PlannedNetwork;
  readonly languageModel: PlannedNetwork;
  /** What computes a step, and what computes the keys and values of text and references once for a schedule, where the family has such. */
  readonly transformer: PlannedNetwork;
  readonly transformerPrefix: PlannedNetwork | undefined;
  readonly vaeDecoder: PlannedNetwork;
  readonly vae: VaeNumbers;
  readonly vision: VisionNumbers;
  readonly sampled: Transformer;
  /** What a step cache takes at some lengths; undefined: there is none. */
  readonly stepCache: ((lengths: ReturnType<typeof sampledTokens>) => StepCacheNeeds) | undefined;
}

/** The device, its memory limit, the requested compute types, the number of pictures, and how often the transformer is evaluated. */
export type WantedNetworks = MemoryLimit & {
  readonly references: number;
  /** How often the transformer is evaluated, see scheduledEvaluations; undefined: any number of times. */
  readonly evaluations?: number;
} & Pick<ResolvedSettings, "dtype" | "textDtype" | "vaeDtype" | "referenceMethod" | "stepCache">;

/** Builds all graphs, half a second at full size. Throws QEDIT_E_CHECKPOINT for a file of another family. */
export function plannedNetworks(
  { parts, adapters }: Pick<PlannedFiles, "parts" | "adapters">,
  { device, vram, dtype, textDtype, vaeDtype, referenceMethod, stepCache, references, evaluations }: WantedNetworks,
): PlannedNetworks {
  const { vae, textEncoder, transformer } = parts;
  const numbers = numbersOf(textEncoder.checkpoint);
  const [vision, language] = [visionConfig(numbers, textEncoder.config), languageConfig(numbers, textEncoder.config)];
  const sampled = transformerOf(numbersOf(transformer.checkpoint), transformer.config, { referenceMethod });
  const built = (
    network: NetworkId,
    { part, optimization }: { part: keyof typeof parts; optimization: Optimization },
    build: (graph: Graph, w: Weights) => void,
    active: readonly Adapter[] = [],
  ) => {
    const graph = new Graph(`the ${networkName(network)}`, { widening: wideningOf(optimization, device) });
    build(graph, Weights.of(graph, parts[part].checkpoint, active));
    return { network, optimization, graph };
  };
  const text = {
    stage: "encode-prompt",
    compute: computeType(device, "text-encoder", textDtype),
  } as const;
  const picture = { compute: computeType(device, "vae", vaeDtype) } as const;
  const inText = { part: "textEncoder", optimization: "none" } as const;
  const inVae = { part: "vae", optimization: "full" } as const;
  const compute = computeType(device, "transformer", dtype);
  const { optimization, isModulationFed } = transformerOpening(transformer, { device, vram, evaluations });
  const sampling = (part: TransformerPart): PlannedNetwork => ({
    ...(part === "prefix" && { part }),
    stage: "sample",
    compute,
    ...built(
      "transformer",
      { part: "transformer", optimization },
      (g, w) => sampled.build(g, w, { compute, part, references, isModulationFed }),
      adapters,
    ),
  });
  const part = sampled.keptWidth === undefined ? "whole" : "step";
  const loras = adapters.map((adapter) => ({ adapter }));
  const sized = { file: transformer, network: sampled, compute, loras, stepCache };
  return {
    vaeEncoder: {
      ...picture,
      stage: "encode-image",
      ...built("vae-encoder", inVae, (g, w) => buildVaeEncoder(g, w, picture)),
    },
    visionTower: {
      ...text,
      ...built("vision-tower", inText, (g, w) => buildVisionTower(g, w, { config: vision, compute: text.compute })),
    },
    languageModel: {
      ...text,
      ...built("language-model", inText, (g, w) =>
        buildLanguageModel(g, w, { config: language, compute: text.compute }),
      ),
    },
    transformer: sampling(part),
    transformerPrefix: part === "whole" ? undefined : sampling("prefix"),
    vaeDecoder: {
      ...picture,
      stage: "decode",
      ...built("vae-decoder", inVae, (g, w) => buildVaeDecoder(g, w, { ...picture, quantization: "round" })),
    },
    vae: vaeNumbers(numbersOf(vae.checkpoint)),
    vision,
    sampled,
    stepCache:
      stepCache === undefined ? undefined : (lengths) => stepCacheNeeds({ ...sized, ...lengths }, { device, part }),
  };
}
