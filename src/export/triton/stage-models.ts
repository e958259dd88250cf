// The stage models of an export, with their graphs: what the ensembles are made of.

import type { Device } from "../../engine/providers.js";
import { affordableOptimization } from "../../engine/sessions/optimization.js";
import type { DType } from "../../graph/types.js";
import { vaeStatistics } from "../../models/vaes.js";
import type { ActiveLora } from "../../stages/networks/loras.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import { encodePromptGraph } from "../graphs/prompt-graph.js";
import { sampledNetwork } from "../graphs/sampled-networks.js";
import { emptyReferences, joinGraph, samplerGraph } from "../graphs/sampler-graph.js";
import { decodeGraph, encodeImageGraph } from "../graphs/vae-graphs.js";
import type { ExportedModel } from "./exported-model.js";
import { type ModelTensors, modelTensors, pictureCounts, type StageModelName } from "./tensor-specs.js";
import { tensorWidths } from "./tensor-widths.js";

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
  const network = sampledNetwork(transformer, { referenceMethod });
  const widths = tensorWidths(files);
  const statistics = vaeStatistics(numbersOf(vae.checkpoint), vae.config);
  const tensors = modelTensors(widths);
  const of = (name: StageModelName): ModelTensors => tensors.get(name)!;
  const exportedVae = { checkpoint: vae.checkpoint, statistics, compute: compute.vae };
  const sampler = {
    checkpoint: transformer.checkpoint,
    adapters: loras.map(({ adapter, strength }) => ({ ...adapter, fixedStrength: strength })),
    compute: compute.transformer,
    optimization: affordableOptimization({ externals: transformer.checkpoint.tensors }, device),
    cfgNorm: cfgNorm === "none" ? undefined : cfgNorm,
  };
  return [
    encodeImageGraph(of("encode_image"), exportedVae),
    encodePromptGraph(of("encode_prompt"), { ...textEncoder, compute: compute.textEncoder }),
    ...pictureCounts(widths, images).map((count) =>
      count === 0 ? emptyReferences(of("join_0")) : joinGraph(of(`join_${count}`), network),
    ),
    samplerGraph(of("sample"), network, sampler),
    ...(hasCfg ? [samplerGraph(of("sample_cfg"), network, sampler)] : []),
    decodeGraph(of("decode"), exportedVae),
  ];
}
