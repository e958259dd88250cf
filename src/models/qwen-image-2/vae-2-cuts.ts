// Where the networks of Qwen-Image-2.1's VAE are cut in two, and how far the layers of the local part see.
import type { Weights } from "../../checkpoint/weights.js";
import type { Cut, VaeHalf } from "../vae-family.js";
import { type Level, levelChannels, levelsOf } from "./vae-2-levels.js";

/** Convolutions of a residual block, each of which sees one place around. A shortcut sees no further than the layers beside it. */
const RESIDUAL_REACH = 2;

/** The cut of a half: the encoder's behind the last level that halves, where what follows takes little memory; the decoder's before its levels. */
export function vae2Cut(w: Weights, half: VaeHalf): Cut {
  const levels = levelsOf(w, half);
  const attending = levels.findIndex(({ layers }) => layers.some((each) => each.has("to_qkv")));
  return half === "encoder"
    ? encoderCut(w, attending < 0 ? levels : levels.slice(0, attending))
    : decoderCut(w, levels);
}

// In pixels a 3 × 3 convolution sees 1 around, a halving one up to 2.
function encoderCut(w: Weights, levels: readonly Level[]): Cut {
  const layers = levels.findLastIndex(({ resampler }) => resampler !== undefined) + 1;
  let [ratio, reach] = [1, 1];
  for (const level of levels.slice(0, layers)) {
    reach += RESIDUAL_REACH * ratio * level.layers.length;
    if (level.resampler !== undefined) ratio *= 2;
  }
  const last = levels[layers - 1];
  const channels = last === undefined ? w.shape("encoder.conv1.weight")[0]! : levelChannels(last);
  return { layers, channels, ratio, margin: Math.ceil(reach / ratio) };
}

// In features at the cut; every doubling makes them smaller.
function decoderCut(w: Weights, levels: readonly Level[]): Cut {
  const layers = levels.findLastIndex((level) => level.layers.some((each) => each.has("to_qkv"))) + 1;
  let [ratio, reach] = [1, 0];
  for (const level of levels.slice(layers)) {
    const residuals = level.layers.filter((each) => each.has("residual")).length;
    reach += (RESIDUAL_REACH * residuals) / ratio;
    if (level.resampler === undefined) continue;
    ratio *= 2;
    reach += 1 / ratio;
  }
  const last = levels[layers - 1];
  const channels = last === undefined ? w.shape("decoder.conv1.weight")[0]! : levelChannels(last);
  return { layers, channels, ratio, margin: Math.ceil(reach + 1 / ratio) };
}
