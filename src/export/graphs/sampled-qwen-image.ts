// Qwen-Image-Edit as exported samplers evaluate it: text, target and references in one pass at every step.
import type { Weights } from "../../checkpoint/weights.js";
import type { Value } from "../../graph/value.js";
import { gridOfLatent, latentOfTokens, latentTokens, ropeOfPositions } from "../../models/graph-tokens.js";
import { computedModulation, type ModulationSource, steppedModulation } from "../../models/qwen-image/modulation.js";
import { referencePositions, targetPositions, textPositions } from "../../models/qwen-image/token-positions.js";
import { transformerVelocity } from "../../models/qwen-image/transformer.js";
import type { TransformerConfig } from "../../models/qwen-image/transformer-config.js";
import {
  type ExportedTransformer,
  PROMPTS,
  packedReferences,
  type SampledNetwork,
  type SamplerInputs,
  type VelocityAt,
} from "./sampled-network.js";

/** A transformer of Qwen-Image-Edit. */
export function sampledQwenImage(config: TransformerConfig): SampledNetwork {
  const { patchSize, patchWidth, textWidth } = config;
  return {
    ...{ channels: patchWidth / patchSize ** 2, patchSize, tokenWidth: patchWidth, textWidth },
    velocityAt(inputs, levels, { w, transformer }) {
      const velocity = velocityOf(inputs, w, { config, transformer });
      const modulationAt = modulationBySteps(levels, w, { config, transformer });
      return (step, sigma) => {
        const modulation = modulationAt(step, sigma);
        return (x, which) => velocity(x, modulation, which);
      };
    },
  };
}

interface Network {
  readonly config: TransformerConfig;
  readonly transformer: ExportedTransformer;
}

// As withTransformer chooses: linears that are widened when the session opens cost next to nothing in a step; others run once, before the loop.
function modulationBySteps(
  levels: Value,
  w: Weights,
  { config, transformer: { compute, optimization } }: Network,
): (step: Value, sigma: Value) => ModulationSource {
  if (optimization !== "none") return (_, sigma) => computedModulation(sigma, w, { config, compute });
  const modulation = steppedModulation(levels, w, { config, compute });
  return (step) => modulation.at(step);
}

type Velocity = (x: Value, modulation: ModulationSource, which: Parameters<ReturnType<VelocityAt>>[1]) => Value;

function velocityOf(inputs: SamplerInputs, w: Weights, { config, transformer: { compute } }: Network): Velocity {
  const noise = inputs["noise"]!;
  const grid = gridOfLatent(noise, { rows: "rows", columns: "columns" }, config);
  const { tokens, packed } = packedReferences(inputs, config);
  const images = [targetPositions(grid), referencePositions(packed, config)];
  const reference = tokens.cast(compute);
  const prompts = new Map(
    PROMPTS.flatMap((name) => {
      const embeds = inputs[`${name}_embeds`];
      if (embeds === undefined) return [];
      const text = textPositions(embeds.shapeValue(1, 2), String(embeds.dim(1)), grid);
      const { cos, sin } = ropeOfPositions([text, ...images], config);
      return [[name, { prompt: embeds.cast(compute), rope: { cos: cos.cast(compute), sin: sin.cast(compute) } }]];
    }),
  );
  return (x, modulation, which) => {
    const target = latentTokens(x, grid, config).cast(compute);
    const velocity = transformerVelocity({ target, reference, modulation, ...prompts.get(which)! }, w, config);
    return latentOfTokens(velocity, grid, { like: noise, config });
  };
}
