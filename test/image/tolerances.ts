// How far image code may be from its references, and why. Values are of pixels in 0..1 unless said otherwise.

export const TOLERANCES = {
  /** Decoders and Lanczos compute in integers: no difference at all, in 8-bit levels. */
  exactBytes: 0,
  /** torch sums up to some hundred float32 pixels for an output; here the sum is in float64. Largest seen: 7e-7. */
  area: 2e-6,
  /** Two or four products on each axis, summed in float32 there and in float64 here. Largest seen: 1e-7 and 1e-6. */
  bilinear: 5e-7,
  bicubic: 2e-6,
  /** Picks pixels. */
  nearest: 0,
  /** One float32 subtraction and division, of values up to 2.7. */
  patches: 1e-6,
  /** Lossy files are compared by mean difference in 8-bit levels: quality 95 on a photograph. */
  lossyMean: 3,
  /** Conversions of one colour profile by two versions of lcms, at 8 or 16 bits, in 8-bit levels. */
  converted: 2,
  /** Drift that is found against the drift that was made: 1 pixel at the edge of a megapixel picture, and a quarter of one at its centre. */
  driftZoom: 0.001,
  driftPixels: 0.25,
} as const;
