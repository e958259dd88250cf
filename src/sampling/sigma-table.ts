// The noise levels of a rectified-flow model whose time is shifted: ComfyUI's ModelSamplingAuraFlow node
// (comfy/model_sampling.py of v0.3.64, multiplier 1: the timestep of a level is the level itself).

import { QeditError } from "../std/errors.js";

/** Entries of the table; t = 1/1000 … 1000/1000. */
const ENTRIES = 1000;

const f32 = Math.fround;

/** The levels σ that a model was made for, and the map from time to level. */
export interface SigmaTable {
  /** [1000], ascending, the last one 1. */
  readonly sigmas: Float32Array;
  /** σ(t) = s·t / (1 + (s − 1)·t) for t in 0..1, rounded to float32 at each step as torch does. */
  shift(time: number): number;
  /** σ after a share of the run: 1 at percent 0 and below, 0 at 1 and above; float64, as Python computes it. */
  percentToSigma(percent: number): number;
}

/** The table of a shift s > 0: 3 in the published workflow, 1 for none. */
export function sigmaTable(shift: number): SigmaTable {
  if (!(shift > 0 && Number.isFinite(shift))) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use shift ${shift}: a shift is a number above 0`, {
      hint: "The published workflow uses 3",
    });
  }
  const rise = f32(shift);
  const excess = f32(shift - 1);
  const shifted = (time: number): number =>
    shift === 1 ? f32(time) : f32(f32(rise * time) / f32(1 + f32(excess * time)));
  return {
    sigmas: Float32Array.from({ length: ENTRIES }, (_, i) => shifted(f32((i + 1) / ENTRIES))),
    shift: (time) => shifted(f32(time)),
    percentToSigma(percent) {
      if (percent <= 0) return 1;
      if (percent >= 1) return 0;
      const time = 1 - percent;
      return shift === 1 ? time : (shift * time) / (1 + (shift - 1) * time);
    },
  };
}
