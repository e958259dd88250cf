// How far from ComfyUI's numbers each part may be, and why. All compared values are float32; a latent's values are of the order of 1.

/** Largest allowed absolute differences. */
export const TOLERANCE = {
  /** Integers and single roundings only: no difference. */
  exact: 0,
  /** Powers, exponentials and tangents of two mathematical libraries: two units in the last place of a level up to 1. */
  sigmas: 1.2e-7,
  /** Last-place differences of logarithms and exponentials in scalar coefficients, times values up to 5, over the steps of a run. */
  run: 1.5e-6,
  /** Published six-decimal reference values. */
  sixDecimals: 6e-7,
} as const;
