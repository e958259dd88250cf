// The stage models of an export, with their graphs: what the ensembles are made of.

import type { Device } from "../../engine/providers.js";
import { affordableOptimization } from "../../engine/sessions/optimization.js";
import type { DType } from "../../graph/types.js";
import {
  latentStatistics,
  type TransformerConfig,
  transformerConfig,
} from "../../models/qwen-image/transformer-config.js";
import { vaeConfig } from "../../models/qwen-image/vae.js";
import { languageConfig, visionConfig } from "../../models/qwen2.5-vl/text-encoder-config.js";
import type { ActiveLora } from "../../stages/networks/loras.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { param, QeditError } from "../../std/errors.js";
import { encodePromptGraph } from "../graphs/prompt-graph.js";
import { joinGraph, samplerGraph } from "../graphs/sampler-graph.js";
import { decodeGraph, encodeImageGraph } from "../graphs/vae-graphs.js";
import type { ExportedModel } from "./exported-model.js";
import { type ModelTensors, modelTensors, type StageModelName, type TensorWidths } from "./tensor-specs.js";

/** Opened model files. */
export interface StageFiles {
  readonly vae: ModelHandle;
  readonly textEncoder: ModelHandle;
  readonly transformer: ModelHandle;
  readonly loras: readonly ActiveLora[];
}

/** What is fixed in the graphs. */
export interface StageModelOptions {
  /** Most pictures of an edit. */
  readonly images: number;
  /** Whether there is a sampler with guidance. */
  readonly hasCfg: boolean;
  /** Strength of CFGNorm; "none": no CFGNorm. */
  readonly cfgNorm: number | "none";
  /** One of REFERENCE_METHODS; undefined: what the transformer was made for. */
  readonly referenceMethod?: string | undefined;
  readonly compute: Readonly<Record<"vae" | "textEncoder" | "transformer", DType>>;
  /** Where the server computes. */
  readonly device: Device;
}

/** The stage models of an export. Throws QEDIT_E_CHECKPOINT for files that cannot be run, or do not belong together. */
export function stageModels(files: StageFiles, options: StageModelOptions): ExportedModel[] {
  const { vae, textEncoder, transformer, loras } = files;
  const { images, hasCfg, cfgNorm, referenceMethod, compute, device } = options;
  const config = transformerConfig(numbersOf(transformer.checkpoint), transformer.config, { referenceMethod });
  const widths = widthsOf(files, config);
  const statistics = latentStatistics(vae.config, widths.latentChannels);
  const tensors = modelTensors(widths);
  const of = (name: StageModelName): ModelTensors => tensors.get(name)!;
  const exportedVae = { checkpoint: vae.checkpoint, statistics, compute: compute.vae };
  const sampler = {
    checkpoint: transformer.checkpoint,
    config,
    adapters: loras.map(({ adapter, strength }) => ({ ...adapter, fixedStrength: strength })),
    compute: compute.transformer,
    optimization: affordableOptimization({ externals: transformer.checkpoint.tensors }, device),
    cfgNorm: cfgNorm === "none" ? undefined : cfgNorm,
  };
  return [
    encodeImageGraph(of("encode_image"), exportedVae),
    encodePromptGraph(of("encode_prompt"), { ...textEncoder, compute: compute.textEncoder }),
    ...Array.from({ length: images }, (_, index) => joinGraph(of(`join_${index + 1}`), config)),
    samplerGraph(of("sample"), sampler),
    ...(hasCfg ? [samplerGraph(of("sample_cfg"), sampler)] : []),
    decodeGraph(of("decode"), exportedVae),
  ];
}

// Artifacts say what a stage takes; here one stage's tensors are the next one's without a look in between.
function widthsOf({ vae, textEncoder, transformer }: StageFiles, config: TransformerConfig): TensorWidths {
  const text = numbersOf(textEncoder.checkpoint);
  const vision = visionConfig(text, textEncoder.config);
  const { latentChannels } = vaeConfig(numbersOf(vae.checkpoint));
  const { width } = languageConfig(text, textEncoder.config);
  const refuse = (what: string, { file }: { file: string }, option: string) =>
    new QeditError("QEDIT_E_CHECKPOINT", `Cannot export ${transformer.checkpoint.file} with ${file}: ${what}`, {
      hint: `Give the one that belongs to the transformer: ${param(option, "FILE")}`,
    });
  const wanted = config.patchWidth / config.patchSize ** 2;
  if (latentChannels !== wanted)
    throw refuse(`latents have ${latentChannels} channels, ${wanted} are wanted`, vae.checkpoint, "vae");
  if (width !== config.textWidth)
    throw refuse(
      `embeddings are ${width} wide, ${config.textWidth} are wanted`,
      textEncoder.checkpoint,
      "text_encoder",
    );
  return {
    latentChannels,
    tokenWidth: config.patchWidth,
    promptWidth: width,
    pixelWidth: vision.channels * vision.temporalPatchSize * vision.patchSize ** 2,
  };
}
