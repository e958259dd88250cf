// A few blocks of the transformer at full width in every form: the networks of measures.ts and their feeds.
import { matchLora } from "../../src/checkpoint/lora/lora.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type Adapter, Weights } from "../../src/checkpoint/weights.js";
import { computeType } from "../../src/engine/providers.js";
import { affordableOptimization } from "../../src/engine/sessions/optimization.js";
import { Graph } from "../../src/graph/graph.js";
import { fedVectors, modulationInput } from "../../src/models/qwen-image/modulation.js";
import { type Grid, ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer } from "../../src/models/qwen-image/transformer.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { elementCount, float32, type Tensor } from "../../src/std/tensor.js";
import {
  addBiasInGelu,
  addGatedBiasInLayerNorm,
  addInLayerNorm,
  addLorasApart,
  type GraphForm,
  multiplyFp8,
  widenVectors,
} from "../graph-forms.js";
import type { BuiltNetwork, Opening } from "./networks.js";

/** Number of blocks: a fifteenth of the published transformer. The last one is built like its last block. */
const BLOCKS = 4;

/** How the blocks differ from those that an edit opens without a LoRA. */
interface Way {
  readonly lora?: "stacked" | "apart";
  readonly isModulationComputed?: boolean;
  readonly form?: GraphForm;
  /** Whether weights are widened once, when the session opens. */
  readonly isWidenedOnce?: boolean;
}

/** Networks by name, for GPU_NETWORKS. */
export const FEW_BLOCKS = {
  blocks: (opening: Opening) => fewBlocks(opening, {}),
  "blocks-modulation": (opening: Opening) => fewBlocks(opening, { isModulationComputed: true }),
  "blocks-fp8": (opening: Opening) => fewBlocks(opening, { form: multiplyFp8 }),
  "blocks-norms": (opening: Opening) => fewBlocks(opening, { form: addInLayerNorm }),
  "blocks-vectors": (opening: Opening) => fewBlocks(opening, { form: widenVectors }),
  "blocks-gelu": (opening: Opening) => fewBlocks(opening, { form: addBiasInGelu }),
  "blocks-gates": (opening: Opening) =>
    fewBlocks(opening, {
      form(graph) {
        addInLayerNorm(graph);
        addGatedBiasInLayerNorm(graph);
      },
    }),
  "blocks-resident": (opening: Opening) => fewBlocks(opening, { isWidenedOnce: true }),
  "blocks-lora": (opening: Opening) => fewBlocks(opening, { lora: "stacked" }),
  "blocks-lora-apart": (opening: Opening) => fewBlocks(opening, { lora: "apart" }),
} as const satisfies Record<string, (opening: Opening) => Promise<BuiltNetwork>>;

async function fewBlocks(
  { files, sizes, device }: Opening,
  { lora, isModulationComputed = false, form, isWidenedOnce = false }: Way,
): Promise<BuiltNetwork> {
  const checkpoint = await readSafetensors(files.transformer);
  const whole = transformerConfig(numbersOf(checkpoint), checkpointConfig(checkpoint));
  const config = { ...whole, blocks: Math.min(whole.blocks, BLOCKS) };
  const blocks = { from: 0, to: config.blocks };
  const adapters: Adapter[] = lora
    ? [{ name: "lora_strength.0", modules: (await matchLora(await readSafetensors(files.lora), checkpoint)).matched }]
    : [];
  const graph = new Graph("a few blocks of the transformer");
  const compute = computeType(device, "transformer");
  buildTransformer(graph, Weights.of(graph, checkpoint, lora === "stacked" ? adapters : []), {
    config,
    compute,
    blocks,
    isModulationFed: !isModulationComputed,
  });
  if (lora === "apart") addLorasApart(graph, adapters);
  form?.(graph);
  const grid: Grid = { rows: sizes.side, columns: sizes.side };
  const { cos, sin } = ropeTables(sizes.promptTokens, [grid, grid], config);
  const feeds = {
    latent_tokens: noise(1, [1, sizes.side ** 2, config.patchWidth]),
    reference_tokens: noise(2, [1, sizes.side ** 2, config.patchWidth]),
    prompt_embeds: noise(3, [1, sizes.promptTokens, config.textWidth]),
    ...(isModulationComputed
      ? { timestep: float32([1], Float32Array.of(0.75)) }
      : { [modulationInput(blocks)]: noise(4, [fedVectors({ config, blocks }), config.heads * config.headDim]) }),
    rope_cos: cos,
    rope_sin: sin,
    ...(lora ? { "lora_strength.0": float32([1], Float32Array.of(1)) } : {}),
  };
  const optimization = isWidenedOnce ? "full" : affordableOptimization(graph, device);
  return { graph, optimization, compute, feeds: async () => feeds };
}

function noise(seed: number, shape: readonly number[]): Tensor<"float32"> {
  return float32(shape, randn(seed, elementCount(shape)));
}
