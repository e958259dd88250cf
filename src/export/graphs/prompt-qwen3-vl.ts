// Qwen3-VL inside the exported model of prompts: what the stages compute of tensors, its learned positions and its rotary tables, is computed in the graph.
import type { Weights } from "../../checkpoint/weights.js";
import { unsqueeze } from "../../graph/indexing.js";
import { concat, type Value } from "../../graph/value.js";
import type { ConfigJson } from "../../models/config-json.js";
import { anglesOf, rotations } from "../../models/graph-tokens.js";
import {
  type Qwen3Language,
  type Qwen3Vision,
  qwen3LanguageConfig,
  qwen3VisionConfig,
} from "../../models/qwen3-vl/qwen3-config.js";
import { interleavedAxis, qwen3States } from "../../models/qwen3-vl/qwen3-language.js";
import { qwen3VisionOutputs } from "../../models/qwen3-vl/qwen3-vision.js";
import { type PatchPositions, patchPositions, patchRotations } from "./patch-places.js";
import type { ExportedNetworks, OneGrid, ReadTokens } from "./prompt-encoder.js";

/** The networks of a file of Qwen3-VL. */
export function qwen3Networks(w: Weights, config: ConfigJson): ExportedNetworks {
  const [language, vision] = [qwen3LanguageConfig(w, config), qwen3VisionConfig(w, config)];
  return {
    ...{ vision, width: language.width, features: language.pictureFeatures },
    see({ pixels, grid }, own) {
      const places = patchPositions(grid, vision);
      const rope = patchRotations(places, vision, pixels.dtype);
      const { embeds, features } = qwen3VisionOutputs(
        { pixels, rope, ...learnedPositions(places, grid, vision) },
        own,
        vision,
      );
      return [embeds, ...features];
    },
    read({ embeds, features, positions }, own, compute) {
      const { cos, sin } = rotations([interleavedAngles(positions, language)]);
      const rope = { cos: cos.cast(compute), sin: sin.cast(compute) };
      return qwen3States({ embeds, rope, features }, own, language);
    },
  };
}

// See qwen3Geometry: rows i64 and shares f32 [4, patches] of the learned positions around each patch.
function learnedPositions(
  { row, column }: PatchPositions,
  { rows, columns }: OneGrid,
  { positionSide }: Qwen3Vision,
): { readonly rows: Value; readonly shares: Value } {
  const down = axisShares(row, rows, positionSide);
  const across = axisShares(column, columns, positionSide);
  const corners = down.flatMap((y) =>
    across.map((x) => ({ place: y.place.mul(positionSide).add(x.place), share: y.share.mul(x.share) })),
  );
  const stacked = (lists: readonly Value[]) =>
    concat(
      lists.map((list) => unsqueeze(list, 0)),
      0,
    );
  return { rows: stacked(corners.map(({ place }) => place)), shares: stacked(corners.map(({ share }) => share)) };
}

interface Share {
  /** i64 [patches] */
  readonly place: Value;
  /** f32 [patches] */
  readonly share: Value;
}

// The two of `side` learned places that each patch of a side of `length`, i64 [1], lies between. In float32, as the reference has it.
function axisShares(index: Value, length: Value, side: number): readonly [Share, Share] {
  const at = index
    .mul(side - 1)
    .cast("f32")
    .div(length.sub(1).max(1).cast("f32"));
  const before = at.floor();
  const share = at.sub(before);
  const place = before.cast("i64");
  return [
    { place, share: share.mul(-1).add(1) },
    { place: place.add(1).min(side - 1), share },
  ];
}

// See interleavedRope: angles f64 [tokens, head/2], each pair by the axis whose turn it is.
function interleavedAngles(
  positions: ReadTokens["positions"],
  { headDim, ropeSections, ropeTheta }: Qwen3Language,
): Value {
  const pairs = Array.from({ length: headDim / 2 }, (_, k) => k);
  const ofAxis = (axis: number) => {
    const frequencies = pairs.map((k) =>
      interleavedAxis(k, ropeSections) === axis ? ropeTheta ** ((-2 * k) / headDim) : 0,
    );
    return anglesOf(positions[axis]!, frequencies);
  };
  return ofAxis(0).add(ofAxis(1)).add(ofAxis(2));
}
