// Qwen-Image-2.1 as exported samplers evaluate it: keys and values of text and references once before the loop, the target at every step.
import type { Weights } from "../../checkpoint/weights.js";
import { refuseUnless, unsqueeze } from "../../graph/indexing.js";
import type { Value } from "../../graph/value.js";
import { gridOfLatent, type LatentGrid, latentOfTokens, latentTokens } from "../../models/graph-tokens.js";
import { type Attendable, packedPrefix, type Rope } from "../../models/qwen-image-2/block-causal-blocks.js";
import type { TransformerConfig } from "../../models/qwen-image-2/block-causal-config.js";
import { prefixStates, targetVelocity } from "../../models/qwen-image-2/block-causal-transformer.js";
import {
  misplacedReferences,
  oddSides,
  PATCH,
  type PackedSequence,
  packedCounts,
  packedRopes,
  packedTextMask,
} from "../../models/qwen-image-2/packed-sequence.js";
import {
  computedModulation,
  type ModulationSource,
  steppedModulation,
} from "../../models/qwen-image-2/shared-modulation.js";
import {
  type ExportedTransformer,
  PROMPTS,
  type PromptName,
  packedReferences,
  type SampledNetwork,
  type SamplerInputs,
} from "./sampled-network.js";

/** The tensors that say where references stand in each prompt. */
const PLACES: Readonly<Record<PromptName, string>> = {
  prompt: "image_positions",
  negative_prompt: "negative_image_positions",
};

/** A transformer of Qwen-Image-2.1. */
export function sampledQwenImage2(config: TransformerConfig): SampledNetwork {
  const { channels, textWidth } = config;
  return {
    ...{ channels, ...PATCH, tokenWidth: channels, textWidth },
    velocityAt(inputs, levels, { w, transformer }) {
      const { compute } = transformer;
      const noise = refuseOddNoise(inputs["noise"]!);
      const grid = gridOfLatent(noise, { rows: "rows", columns: "columns" }, PATCH);
      const modulation = modulationBySteps(levels, w, transformer);
      const network = { config, compute };
      const prompts = promptStates(inputs, w, { config, transformer, grid, modulation: modulation.prefix });
      return (step, sigma) => {
        const own = modulation.at(step, sigma);
        return (x, which) => {
          const tokens = latentTokens(x, grid, PATCH).cast(compute);
          const velocity = targetVelocity({ tokens, ...prompts.get(which)! }, w, { ...network, modulation: own });
          return latentOfTokens(velocity, grid, { like: noise, config: PATCH });
        };
      };
    },
  };
}

// As withTransformer chooses: linears that are widened when the session opens cost next to nothing in a step; others run once, before the loop.
function modulationBySteps(
  levels: Value,
  w: Weights,
  { compute, optimization }: ExportedTransformer,
): { readonly prefix: ModulationSource; at(step: Value, sigma: Value): ModulationSource } {
  if (optimization === "none") return steppedModulation(levels, w, { compute });
  const { graph } = levels;
  return {
    prefix: computedModulation(graph, w, { timestep: undefined, compute }),
    at: (_, timestep) => computedModulation(graph, w, { timestep, compute }),
  };
}

// A grid with an odd side would not be centred as one with an even side is.
function refuseOddNoise(noise: Value): Value {
  return refuseUnless(noise, oddSides(unsqueeze(noise.shapeValue(2, 4), 0)), "sides of noise must be even");
}

interface Network {
  readonly config: TransformerConfig;
  readonly transformer: ExportedTransformer;
  readonly grid: LatentGrid;
  readonly modulation: ModulationSource;
}

/** What the target sees under a prompt. */
interface PromptStates {
  readonly kept: readonly Attendable[];
  readonly rope: Rope;
}

function promptStates(
  inputs: SamplerInputs,
  w: Weights,
  { config, transformer: { compute }, grid, modulation }: Network,
): ReadonlyMap<PromptName, PromptStates> {
  const given = packedReferences(inputs, PATCH);
  const references = refuseUnless(given.tokens, oddSides(given.packed.sizes), "reference_sizes must be even");
  const inType = ({ cos, sin }: Rope) => ({ cos: cos.cast(compute), sin: sin.cast(compute) });
  return new Map(
    PROMPTS.flatMap((name) => {
      const embeds = inputs[`${name}_embeds`];
      if (embeds === undefined) return [];
      const text = { count: embeds.shapeValue(1, 2), name: String(embeds.dim(1)) };
      const places = PLACES[name];
      const imagePositions = placesOf(inputs[places]!, { name: places, text: text.count, sizes: given.packed.sizes });
      const sequence: PackedSequence = { text, references: given.packed, imagePositions, target: grid };
      const { prefix, target } = packedRopes(sequence, config);
      const segments = [embeds.cast(compute), references.cast(compute)] as const;
      const mask = packedTextMask(sequence).cast(compute);
      const attention = packedPrefix({ segments, mask, before: imagePositions, ...packedCounts(given.packed) });
      const kept = prefixStates({ segments, rope: inType(prefix), attention }, w, { config, compute, modulation });
      return [[name, { kept, rope: inType(target) }] as const];
    }),
  );
}

function placesOf(
  given: Value,
  { name, text, sizes }: { readonly name: string; readonly text: Value; readonly sizes: Value },
): Value {
  const many = refuseUnless(
    given,
    given.shapeValue().sub(sizes.shapeValue(0, 1)),
    `${name} must have a place for each reference`,
  );
  return refuseUnless(many, misplacedReferences(many, text), `${name} must be rising places among the prompt's tokens`);
}
