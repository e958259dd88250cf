// Qwen2.5-VL inside the exported model of prompts: what the stages compute of tensors, its geometry and its rotary tables, is computed in the graph.
import type { Weights } from "../../checkpoint/weights.js";
import { divided, unsqueeze, where } from "../../graph/indexing.js";
import type { Value } from "../../graph/value.js";
import type { ConfigJson } from "../../models/config-json.js";
import { anglesOf, rotations } from "../../models/graph-tokens.js";
import { languageStates } from "../../models/qwen2.5-vl/language.js";
import {
  type LanguageConfig,
  languageConfig,
  type VisionConfig,
  visionConfig,
} from "../../models/qwen2.5-vl/text-encoder-config.js";
import { visionEmbeds, windowSide } from "../../models/qwen2.5-vl/vision.js";
import { patchPositions, patchRotations } from "./patch-places.js";
import type { ExportedNetworks, OneGrid, ReadTokens } from "./prompt-encoder.js";

/** The networks of a file of Qwen2.5-VL. */
export function qwen25Networks(w: Weights, config: ConfigJson): ExportedNetworks {
  const [language, vision] = [languageConfig(w, config), visionConfig(w, config)];
  return {
    ...{ vision, width: language.width, features: 0 },
    see({ pixels, grid }, own) {
      const { row, column } = patchPositions(grid, vision);
      const rope = patchRotations({ row, column }, vision, pixels.dtype);
      const mask = windowMask({ row, column }, grid, vision).cast(pixels.dtype);
      return [visionEmbeds({ pixels, rope, mask }, own, vision)];
    },
    read({ embeds, positions }, own, compute) {
      const { cos, sin } = rotations(anglesOfSections(positions, language));
      return languageStates(embeds, own, {
        config: language,
        rope: { cos: cos.cast(compute), sin: sin.cast(compute) },
      });
    },
  };
}

// See visionGeometry: each patch sees its window.
function windowMask({ row, column }: { row: Value; column: Value }, { columns }: OneGrid, config: VisionConfig): Value {
  const side = windowSide(config);
  const across = columns.add(side - 1).div(side);
  const window = divided(row, side).quotient.mul(across).add(divided(column, side).quotient);
  const isOwn = unsqueeze(window, 1).equals(unsqueeze(window, 0));
  const limit = (number: number) => row.graph.constant("f32", [], [number]);
  const mask = where(isOwn, limit(0), limit(Number.NEGATIVE_INFINITY));
  return unsqueeze(unsqueeze(mask, 0), 0);
}

// See multimodalRope: pair k is rotated by the axis whose section it lies in.
function anglesOfSections(
  positions: ReadTokens["positions"],
  { ropeSections, ropeTheta, headDim }: LanguageConfig,
): readonly Value[] {
  let first = 0;
  return ropeSections.map((section, axis) => {
    const frequencies = Array.from({ length: section }, (_, k) => ropeTheta ** ((-2 * (first + k)) / headDim));
    first += section;
    return anglesOf(positions[axis]!, frequencies);
  });
}
