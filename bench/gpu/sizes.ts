// The sizes at which networks are measured: those of an edit at 1024² by default, and small ones for a rehearsal.

/** Lengths of the networks' feeds. */
export interface Sizes {
  /** Tokens along one side of a picture, for the transformer: 16 pixels each. */
  readonly side: number;
  /** Prompt tokens with one reference, and how many each further one adds: 196 of its picture and a few around it. */
  readonly promptTokens: number;
  readonly promptTokensEach: number;
  /** Pixels along one side, for the VAE. */
  readonly pixels: number;
  /** Patches of 14 pixels along one side, for the vision tower. */
  readonly patches: number;
  /** Most references that are measured. */
  readonly references: number;
  /** Rows and columns of the matrices whose product measures the machine's rate, and how many products more the longer run has. */
  readonly matrix: number;
  readonly products: number;
  /** Options that give a whole edit the same size. */
  readonly edit: readonly string[];
}

/** A picture of 1024², prompts of spec 2.1: 250 tokens with one reference, 450 with two. */
export const FULL: Sizes = {
  side: 64,
  promptTokens: 250,
  promptTokensEach: 200,
  pixels: 1024,
  patches: 28,
  references: 3,
  matrix: 8192,
  products: 40,
  edit: ["--size", "1024x1024"],
};

/** Sizes for a rehearsal with tiny networks. */
export const SMALL: Sizes = {
  side: 4,
  promptTokens: 7,
  promptTokensEach: 3,
  pixels: 32,
  patches: 8,
  references: 3,
  matrix: 256,
  products: 8,
  edit: ["--megapixels", "0.01"],
};
