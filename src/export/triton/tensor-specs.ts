// The tensors of the exported stage models. An ensemble can neither join tensors nor leave an input out, so references come to the sampler packed:
// the tokens of all of them in one tensor, their sizes in another. `join_1`, `join_2`, … pack the latents of so many pictures, and `join_0` gives the
// tensors of none; they have no weights, and one sampler serves all. (Latents beside each other in one tensor would be cut by the same sizes, but be
// padded by every client; a sampler for each number of references would hold the weights as often.)
import type { Datatype, ExportedModel, TensorSpec } from "./exported-model.js";

/** Most pictures of an edit, of any family. */
export const MOST_IMAGES = 10;

/** Names of the exported stage models. */
export type StageModelName = "encode_image" | "encode_prompt" | `join_${number}` | "sample" | "sample_cfg" | "decode";

/** The lengths that the model files decide. */
export interface TensorWidths {
  /** Channels of a picture: 3, or 4 with transparency. */
  readonly imageChannels: number;
  /** Pixels that the sides of pictures are multiples of. */
  readonly sideMultiple: number;
  /** Numbers of pictures that edits may have. */
  readonly pictures: { readonly least: number; readonly most: number };
  /** Whether prompts say between which of their tokens references stand. */
  readonly placesImages: boolean;
  /** Channels of a latent: 16, or 64 of Qwen-Image-2.1. */
  readonly latentChannels: number;
  /** Values of one image token. */
  readonly tokenWidth: number;
  /** Width of a prompt's embeddings: 3584, or 4096 of Qwen-Image-2.1. */
  readonly promptWidth: number;
  /** Values of one patch of the vision tower: 1176, or 1536 of Qwen-Image-2.1. */
  readonly pixelWidth: number;
}

/** A model without its graph. */
export type ModelTensors = Pick<ExportedModel, "summary" | "inputs" | "outputs"> & { readonly name: StageModelName };

/** The tensors of all exported stage models, by name. No tensor has rank 0, which Triton refuses. */
export function modelTensors(widths: TensorWidths): ReadonlyMap<StageModelName, ModelTensors> {
  const joins = pictureCounts(widths).map((count) => joinTensors(count, widths));
  const models = [encodeImage(widths), encodePrompt(widths), ...joins, ...samplers(widths), decode(widths)];
  return new Map(models.map((model) => [model.name, model]));
}

/** The numbers of pictures that edits may have, up to some most. */
export function pictureCounts({ pictures: { least, most } }: Pick<TensorWidths, "pictures">, upTo = most): number[] {
  return Array.from({ length: Math.min(most, upTo) - least + 1 }, (_, index) => least + index);
}

function encodeImage({ latentChannels, imageChannels, sideMultiple }: TensorWidths): ModelTensors {
  return {
    name: "encode_image",
    summary: "Encodes a picture with the VAE",
    inputs: [
      image(
        imageChannels,
        `A picture in ${coloursOf(imageChannels)}, height by width, at the size that the edit works on: sides in multiples of ${sideMultiple}`,
      ),
    ],
    outputs: [
      latent("latent", latentChannels, "The picture's latent, normalised as the transformer takes it"),
      latent("vae_latent", latentChannels, "The same latent as the VAE gives it, for tensor files"),
    ],
  };
}

// What the vision tower reads of all pictures.
function pixels(pixelWidth: number): TensorSpec[] {
  return [
    tensor(
      "pixel_values",
      "FP32",
      [-1, pixelWidth],
      "Patches of all pictures, normalised, one picture after the other",
    ),
    tensor("image_grid_thw", "INT64", [-1, 3], "Frames (1), rows and columns of patches of each picture"),
  ];
}

function encodePrompt({ promptWidth, pixelWidth, placesImages }: TensorWidths): ModelTensors {
  return {
    name: "encode_prompt",
    summary: "Encodes a prompt, with the pictures that it speaks of",
    inputs: [
      tensor(
        "input_ids",
        "INT64",
        [1, -1],
        "Tokens of a prompt in its template, <|image_pad|> once for each token of a picture",
      ),
      ...pixels(pixelWidth),
    ],
    outputs: placesImages
      ? [
          embeds(
            "prompt_embeds",
            promptWidth,
            "Embeddings of the tokens after the system prompt, without those of pictures",
          ),
          positions("image_positions", "How many of these tokens stand before each picture"),
        ]
      : [embeds("prompt_embeds", promptWidth, "Embeddings of the tokens after the system prompt")],
  };
}

function joinTensors(count: number, { latentChannels, tokenWidth, pixelWidth }: TensorWidths): ModelTensors {
  // What edits of pictures are given. An ensemble has no constants: they are made beside a tensor that is there.
  if (count === 0)
    return {
      name: "join_0",
      summary: "Gives what an edit of no picture has of pictures: empty tensors",
      inputs: [noise(latentChannels)],
      // A configuration has no lengths of 0.
      outputs: [...references(tokenWidth, -1), ...pixels(pixelWidth)],
    };
  return {
    name: `join_${count}`,
    summary: `Packs the latents of ${count} ${count === 1 ? "picture" : "pictures"} as references`,
    inputs: Array.from({ length: count }, (_, index) =>
      latent(`latent_${index + 1}`, latentChannels, `Normalised latent of picture ${index + 1}`),
    ),
    outputs: references(tokenWidth, count),
  };
}

function samplers({ latentChannels, tokenWidth, promptWidth, placesImages }: TensorWidths): ModelTensors[] {
  const inputs = [
    noise(latentChannels),
    ...references(tokenWidth, -1),
    embeds("prompt_embeds", promptWidth, "Embeddings of the prompt"),
    ...(placesImages
      ? [positions("image_positions", "How many tokens of the prompt stand before each reference")]
      : []),
    tensor("sigmas", "FP32", [-1], "Noise levels, falling, one more than steps; the last one is 0"),
  ];
  const outputs = [latent("latents", latentChannels, "The result's latent, normalised")];
  const guidance = [
    embeds("negative_prompt_embeds", promptWidth, "Embeddings of the negative prompt"),
    ...(placesImages
      ? [positions("negative_image_positions", "How many tokens of the negative prompt stand before each reference")]
      : []),
    tensor("cfg", "FP32", [1], "Scale of the prompt over the negative prompt"),
  ];
  return [
    { name: "sample", summary: "Samples a latent under a prompt and references, without guidance", inputs, outputs },
    {
      name: "sample_cfg",
      summary: "Samples a latent under a prompt and references, guided away from a negative prompt",
      inputs: [...inputs, ...guidance],
      outputs,
    },
  ];
}

function decode({ latentChannels, imageChannels }: TensorWidths): ModelTensors {
  return {
    name: "decode",
    summary: "Decodes a latent with the VAE",
    inputs: [latent("latents", latentChannels, "A normalised latent")],
    outputs: [image(imageChannels, `The picture in ${coloursOf(imageChannels)}, height by width`)],
  };
}

// Triton compares an output's lengths with those that ONNX Runtime finds for it, and numbers of references are known there.
function references(tokenWidth: number, count: number): TensorSpec[] {
  return [
    tensor(
      "reference_tokens",
      "FP32",
      [1, -1, tokenWidth],
      "Tokens of all references, one after the other, each a square of 2 x 2 cells of a latent, or a cell of Qwen-Image-2.1, in rows",
    ),
    tensor("reference_sizes", "INT64", [count, 2], "Height and width of each reference in cells of its latent"),
  ];
}

function image(channels: number, summary: string): TensorSpec {
  return tensor("image", "UINT8", [-1, -1, channels], summary);
}

function coloursOf(channels: number): string {
  return channels === 3 ? "RGB" : "RGB and opacity";
}

function positions(name: string, summary: string): TensorSpec {
  return tensor(name, "INT64", [-1], summary);
}

function noise(channels: number): TensorSpec {
  const summary = "Noise of the shape of the result's latent: what is sampled at the first noise level";
  return latent("noise", channels, summary);
}

function latent(name: string, channels: number, summary: string): TensorSpec {
  return tensor(name, "FP32", [1, channels, -1, -1], summary);
}

function embeds(name: string, width: number, summary: string): TensorSpec {
  return tensor(name, "FP32", [1, -1, width], summary);
}

function tensor(name: string, datatype: Datatype, dims: readonly number[], summary: string): TensorSpec {
  return { name, datatype, dims, summary };
}
