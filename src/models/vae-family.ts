// What a family of VAEs is: how its files are recognised, the layers of its networks, and what its latents are.
import type { Weights } from "../checkpoint/weights.js";
import type { Value } from "../graph/value.js";

/** Configuration of a VAE, read from its file. */
export interface VaeConfig {
  /** Channels of a latent: 16, or 64 of Qwen-Image-2.1. */
  readonly latentChannels: number;
  /** Channels of a picture: 3, or 4 with transparency. */
  readonly imageChannels: number;
  /** Pixels of a picture along one side of a latent cell: 8, or 16 of Qwen-Image-2.1. */
  readonly spatialRatio: number;
}

/** Mean and standard deviation of each latent channel: `(latent − mean) / std` is what the transformer sees. */
export interface LatentStatistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** What was published of a VAE's latents. */
export interface PublishedLatents extends LatentStatistics {
  /** Pixels of a picture along one side of a cell. */
  readonly cell: number;
  /** Red, green and blue of each normalised channel, for colours of -1 to 1. */
  readonly colours: readonly (readonly [red: number, green: number, blue: number])[];
  /** Red, green and blue of a latent of zeros. */
  readonly bias: readonly [red: number, green: number, blue: number];
}

/** What the sizes of pictures depend on: the same as SizeRules of src/image, which has the reasons. */
export interface PictureRules {
  readonly multiple: number;
  readonly tokenCells: number;
  readonly mostStretch: number;
  readonly seesReferences: boolean;
}

/** The numbers of a VAE that sizes and lengths depend on. */
export interface VaeNumbers extends VaeConfig {
  readonly sizes: PictureRules;
}

/** Half of a VAE. */
export type VaeHalf = "encoder" | "decoder";

/**
 * Which part of a network a graph is. The middle attends over the whole picture, all other layers see a few pixels around; what is
 * `local` may work on tiles with a margin (see LocalReach) and gives the same as on the whole, what is `global` may not.
 */
export type VaePart = "all" | "global" | "local";

/** How the local part of a network works on tiles. */
export interface LocalReach {
  /** Channels of the features between the parts. */
  readonly channels: number;
  /** Pixels along one side of a feature. */
  readonly ratio: number;
  /** Features around a tile that a result inside it may depend on. */
  readonly margin: number;
}

/** Where a network is cut in two, counted in its layers. */
export interface Cut extends LocalReach {
  /** Layers before the cut. */
  readonly layers: number;
}

/** A layer of the way down or up. */
export type VaeLayer = (x: Value) => Value;

/** A family of VAEs. Weights come under the keys of the family's published file. */
export interface VaeFamily {
  /** The model that it belongs to, for messages: `Qwen-Image`. */
  readonly name: string;
  /** Keys that every file of this family has, and that together no other has. */
  readonly keys: readonly string[];
  readonly latents: PublishedLatents;
  readonly sizes: PictureRules;
  /** Whether its model makes pictures of a prompt alone. */
  readonly isGenerative: boolean;
  /** Throws QEDIT_E_CHECKPOINT for a relative that cannot be run. */
  readonly config: (w: Weights) => VaeConfig;
  /** The layers between an encoder's first convolution and its middle, or between a decoder's middle and its head. */
  readonly layers: (w: Weights, half: VaeHalf) => readonly VaeLayer[];
  readonly cut: (w: Weights, half: VaeHalf) => Cut;
}
