// Qwen-Image and its edit models as a family of transformers.
import { float32 } from "../../std/tensor.js";
import type {
  BlockRange,
  PromptConditions,
  TokenCounts,
  Transformer,
  TransformerFamily,
  TransformerModulation,
} from "../transformer-family.js";
import {
  buildModulation,
  fedModulationOf,
  fedVectors,
  isModulationModule,
  modulationInput,
  storedVectors,
} from "./modulation.js";
import { patchify, placedGrids, ropeTables, unpatchify } from "./tokens.js";
import { buildTransformer, isIdleInLastBlock } from "./transformer.js";
import { isIdleInTransformer, type TransformerConfig, transformerConfig } from "./transformer-config.js";

/** Blocks whose linears are open at a time: 0.9 GB of fp8 at the published size. */
const BLOCKS_AT_ONCE = 8;

/** Every linear has a bias (diffusers 58eb52c0 transformer_qwenimage.py). */
const BIASED =
  /^(?:img_in|txt_in|time_text_embed\.timestep_embedder\.linear_[12]|transformer_blocks\.\d+\.(?:attn\.(?:to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|(?:img|txt)_(?:mod\.1|mlp\.net\.(?:0\.proj|2)))|norm_out\.linear|proj_out)$/;

/** Qwen-Image-Edit, 2509 and 2511. */
export const QWEN_IMAGE: TransformerFamily = {
  name: "Qwen-Image",
  matches: (w) => w.has("txt_norm.weight") && w.has("img_in.weight"),
  open: (w, config, choices) => qwenImage(transformerConfig(w, config, choices)),
};

/** The transformer of a configuration. */
export function qwenImage(config: TransformerConfig): Transformer {
  const latentChannels = config.patchWidth / config.patchSize ** 2;
  return {
    family: QWEN_IMAGE.name,
    blocks: config.blocks,
    width: config.heads * config.headDim,
    textWidth: config.textWidth,
    latentChannels,
    patchSize: config.patchSize,
    placesImages: false,
    // The releases that only edit and the one that only generates have equal tensors.
    generates: false,
    mostPictures: 3,
    key: config,
    modulation: modulationOf(config),
    // References attend to the target, which has another noise level at every step.
    keptWidth: undefined,
    lengths: ({ text, target, references }: TokenCounts) => ({
      text,
      target,
      reference: references.reduce((sum, each) => sum + each, 0),
    }),
    // As diffusers and ParaAttention do: with the references, of which other noise levels make something else.
    compared: { name: "img", tokens: ({ target, references }) => references.reduce((sum, each) => sum + each, target) },
    build: (graph, w, { part: _, references: _all, ...options }) => buildTransformer(graph, w, { config, ...options }),
    isIdle: (name) => isIdleInLastBlock(name, config),
    isBiased: (module) => BIASED.test(module),
    isMarker: isIdleInTransformer,
    refuse: () => {},
    conditionFeeds({ shape, references, prompt: { embeds } }: PromptConditions) {
      const { cos, sin } = ropeTables(embeds.shape[1]!, placedGrids(float32(shape), references, config), config);
      return { reference_tokens: patchify(references, config), prompt_embeds: embeds, rope_cos: cos, rope_sin: sin };
    },
    targetFeeds: (latent) => ({ latent_tokens: patchify([latent], config) }),
    latentOf: (velocity, shape) => unpatchify(velocity, shape, config),
  };
}

function modulationOf(config: TransformerConfig): TransformerModulation {
  const width = config.heads * config.headDim;
  return {
    isModule: isModulationModule,
    ranges: Array.from({ length: Math.ceil(config.blocks / BLOCKS_AT_ONCE) }, (_, index): BlockRange => {
      const from = index * BLOCKS_AT_ONCE;
      return { from, to: Math.min(from + BLOCKS_AT_ONCE, config.blocks) };
    }),
    hasZeroRow: config.referencesAtZero,
    storedVectors: (blocks) => storedVectors(config, blocks),
    build: (graph, w, options) => buildModulation(graph, w, { config, ...options }),
    fed: (rows, row, { blocks, stepCache }) => {
      const fed = { config, blocks, stepCache };
      return {
        name: modulationInput(blocks),
        value: float32([fedVectors(fed), width], fedModulationOf(rows, row, fed)),
      };
    },
  };
}
