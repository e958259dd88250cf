// What a family of models asks of picture sizes.

/** What the sizes of an edit depend on besides its pictures. */
export interface SizeRules {
  /** Pixels that every side is a multiple of. */
  readonly multiple: number;
  /** Latent cells along a side of a token of the transformer. */
  readonly tokenCells: number;
  /**
   * A picture is stretched by at most this much to a size of other proportions; beyond, it is cropped to them. Laid over the original, a stretched
   * result lies right, a cropped one does not (docs/sizes.md has the measurements). At a megapixel sides in multiples of 16 never need 0.9 %, in
   * multiples of 32 never 1.7 %.
   */
  readonly mostStretch: number;
  /** Whether the vision tower sees the very pixels that the VAE encodes as references, at one size; else pictures of its own size. */
  readonly seesReferences: boolean;
}

/** Of Qwen-Image-Edit: tokens of 2 × 2 cells of 8 pixels, so that no latent side is odd. */
export const EDIT_SIZES: SizeRules = { multiple: 16, tokenCells: 2, mostStretch: 0.01, seesReferences: false };
