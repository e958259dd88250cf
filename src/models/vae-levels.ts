// What a VAE has to have of layers: its levels are alike, so that one whose last layers are missing shows, though the shapes of the others fit.
import type { Weights } from "../checkpoint/weights.js";
import { QeditError } from "../std/errors.js";
import type { VaeHalf } from "./vae-family.js";

/**
 * Takes the numbers of residual blocks of a half's levels, of which every one has as many (num_res_blocks of diffusers' classes). Throws
 * QEDIT_E_CHECKPOINT when one has fewer, or when the middle does not end with one, behind its attention.
 */
export function refuseMissingLayers(w: Weights, half: VaeHalf, levels: readonly number[]): void {
  const most = Math.max(...levels);
  const level = levels.findIndex((each) => each < most);
  const middle = w.at(half).at("middle");
  const last = w.count(`${half}.middle`) - 1;
  const found =
    level >= 0
      ? `level ${level} of its ${half} has ${levels[level]} of the ${most} residual blocks that others have`
      : `the middle of its ${half} has no residual block behind its attention (${half}.middle.${last + 1})`;
  if (level < 0 && middle.at(last).has("residual")) return;
  throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${w.file} as the VAE: ${found}`, {
    hint: "A part of it is missing: take it from its publisher again, or another one by `qedit models pull`",
  });
}
