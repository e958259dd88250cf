// What the vision towers of both text encoders say of themselves in the same tensors and under the same keys of `vision_config`.
import type { Weights } from "../checkpoint/weights.js";
import { QeditError } from "../std/errors.js";
import { blockCount, type ConfigJson, refuseOtherSizes, statedHeads } from "./config-json.js";
import type { VisionNumbers } from "./text-encoder-family.js";

/** The numbers of a tower, of whichever family. */
export type TowerNumbers = Omit<VisionNumbers, "family">;

/** Where a tower differs from another. */
interface TowerForm {
  /** The first linear of its merger, [any, width · merged patches]. */
  readonly merger: string;
  /** Width of a head, where the config does not say their number. */
  readonly headDim: number;
}

/** The numbers of the tower below `visual`; throws QEDIT_E_CHECKPOINT when its config, `vision_config`, is of another one. */
export function towerNumbers(w: Weights, vision: ConfigJson, { merger, headDim }: TowerForm): TowerNumbers {
  const [width, channels, temporalPatchSize, patchSize] = w.shape("visual.patch_embed.proj.weight") as [
    number,
    number,
    number,
    number,
  ];
  const mergeSize = mergedSide(w, { merger, width });
  refuseOtherSizes(w, vision, {
    hidden_size: width,
    patch_size: patchSize,
    temporal_patch_size: temporalPatchSize,
    spatial_merge_size: mergeSize,
  });
  return {
    blocks: blockCount(w, vision, { list: "visual.blocks", key: "depth" }),
    width,
    heads: statedHeads(vision, "num_heads", { name: "visual", width, headDim }),
    channels,
    patchSize,
    temporalPatchSize,
    mergeSize,
  };
}

function mergedSide(w: Weights, { merger, width }: { readonly merger: string; readonly width: number }): number {
  const merged = w.shape(merger)[1]!;
  const side = Math.sqrt(merged / width);
  if (Number.isInteger(side)) return side;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the text encoder: "${merger}" takes ${merged} numbers, which are no square of patches of ${width}`,
  );
}
