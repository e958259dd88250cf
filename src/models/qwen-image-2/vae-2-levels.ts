// The levels of Qwen-Image-2.1's VAE: what is read of each from the keys and shapes of the file.
import type { Weights } from "../../checkpoint/weights.js";
import { QeditError } from "../../std/errors.js";
import type { VaeHalf } from "../vae-family.js";

/** A level of the way down or up: layers of one width, and at the end the one that halves or doubles the sides. */
export interface Level {
  readonly w: Weights;
  readonly layers: readonly Weights[];
  /** The layer that halves or doubles the sides; undefined at the level of the middle's or the picture's size. */
  readonly resampler: Weights | undefined;
  /** Frames of a video that it makes one of, or one into: 1 or 2. A picture is the last of them. */
  readonly frames: 1 | 2;
}

const NAMES = {
  encoder: { levels: "encoder.downsamples", layers: "downsamples" },
  decoder: { levels: "decoder.upsamples", layers: "upsamples" },
} as const;

/** The levels of a half, in the order in which a picture or a latent goes through them. Throws QEDIT_E_CHECKPOINT where the file does not say which of them join frames. */
export function levelsOf(w: Weights, half: VaeHalf): readonly Level[] {
  const levels = readLevels(w, half);
  const frames = (each: readonly Level[]) =>
    each.flatMap((level) => (level.resampler === undefined ? [] : [level.frames]));
  const [down, up] = half === "encoder" ? [levels, readLevels(w, "decoder")] : [readLevels(w, "encoder"), levels];
  const [joined, split] = [frames(down), frames(up).toReversed()];
  // The shortcuts depend on it, and nothing else in a file says it.
  if (joined.includes(2) && joined.join() === split.join()) return levels;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${w.file} as the VAE: time_conv is there for ${joined.filter((each) => each === 2).length} levels of the encoder and ` +
      `${split.filter((each) => each === 2).length} of the decoder, and has to be there for the same ones`,
    { hint: "Take a file that keeps the time_conv of its levels, though a picture needs no such product" },
  );
}

function readLevels(w: Weights, half: VaeHalf): Level[] {
  const names = NAMES[half];
  return Array.from({ length: w.count(names.levels) }, (_, index) => {
    const level = w.at(names.levels).at(index);
    const list = level.at(names.layers);
    const layers = Array.from({ length: level.count(names.layers) }, (_, layer) => list.at(layer));
    const resampler = layers.find((each) => each.has("resample"));
    return { w: level, layers, resampler, frames: resampler?.has("time_conv") ? 2 : 1 };
  });
}

/** Channels after a level. */
export function levelChannels({ layers }: Level): number {
  return layers.findLast((each) => each.has("residual"))!.shape("residual.6.weight")[0]!;
}
