// One request for each model, which Triton serves before it says that the model is ready: libraries are loaded, and memory for an edit is taken.

import { clientInputs, clientNumbers, promptInput, seenByClient } from "../../edit/remote/client-inputs.js";
import { CHANNELS } from "../../image/image.js";
import { transformerOf } from "../../models/transformers.js";
import { type ModelHandle, numbersOf } from "../../stages/networks/model-handle.js";
import type { Picture } from "../../stages/pictures.js";
import { type SamplingNumbers, samplingOf } from "../../stages/sample.js";
import { float32, type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import type { PromptTokenizer } from "../../text/tokenizer.js";
import type { ExportedModel, TensorSpec } from "./exported-model.js";
import type { Warmup, WarmupInput } from "./model-config.js";

/** A warm-up, and the files in the model's folder `warmup` that it names. */
export interface WarmupRequest {
  readonly config: Warmup;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Sides of the picture of a warm-up: on a GPU those of an edit, so that its memory is taken; on a CPU only what shows that a model runs. */
const SIDE = { gpu: 1024, cpu: 64 };
const MEGAPIXEL = 1024 ** 2;

/** What warm-ups are made for. */
interface Warmed {
  readonly models: Readonly<Record<"vae" | "textEncoder" | "transformer", ModelHandle>>;
  readonly settings: SamplingNumbers;
  readonly images: number;
  readonly gpus: readonly number[] | undefined;
}

/** A warm-up of each model: one step of an edit of as many pictures as the largest ensemble takes. */
export function editWarmups(
  exported: readonly Pick<ExportedModel, "name" | "inputs">[],
  { models, settings, images, gpus }: Warmed,
  tokenizer: PromptTokenizer,
): ReadonlyMap<string, WarmupRequest> {
  const side = gpus === undefined ? SIDE.cpu : SIDE.gpu;
  const edit = {
    pictures: Array.from({ length: images }, () => blankPicture(side)),
    ...{ prompt: "make it winter", negativePrompt: "" },
    sizes: { megapixels: side ** 2 / MEGAPIXEL, size: undefined, match: undefined },
    sampling: samplingOf({ ...settings, sampler: "euler", steps: 1, denoise: 1, seed: 0n }),
  };
  const numbers = clientNumbers(models);
  const inputs = clientInputs(edit, numbers, tokenizer);
  const seen = seenByClient(edit.pictures, edit.sizes, numbers);
  const reading = { match: undefined, family: numbers.family, tokenizer };
  const lengths = {
    prompt_embeds: promptInput(edit.prompt, seen, reading).kept,
    negative_prompt_embeds: promptInput(edit.negativePrompt, seen, reading).kept,
    reference_tokens: images * tokenCount(inputs["noise"]!, models.transformer),
  };
  return new Map(
    exported.map((model) => [model.name, warmupRequest(model, (spec) => tensorOf(spec, { inputs, lengths, images }))]),
  );
}

function tokenCount({ shape }: Tensor, { checkpoint, config }: ModelHandle): number {
  const { patchSize } = transformerOf(numbersOf(checkpoint), config);
  const [height, width] = shape.slice(2) as [number, number];
  return Math.ceil(height / patchSize) * Math.ceil(width / patchSize);
}

interface Made {
  readonly inputs: Tensors;
  /** Of tensors [1, length, width]. */
  readonly lengths: Readonly<Record<string, number>>;
  readonly images: number;
}

// What clients send as it is; of what models give each other only the shape.
function tensorOf({ name, dims }: TensorSpec, { inputs, lengths, images }: Made): Tensor {
  const noise = inputs["noise"]!;
  const [height, width] = noise.shape.slice(2) as [number, number];
  const length = lengths[name];
  if (length !== undefined) return float32([1, length, dims[2]!]);
  // Pictures that all stand before the prompt.
  if (name.endsWith("image_positions")) return tensor("int64", [images], new BigInt64Array(images));
  if (name === "image") return inputs["image_1"]!;
  if (name.startsWith("latent")) return noise!;
  if (name === "reference_sizes")
    return tensor(
      "int64",
      [images, 2],
      BigInt64Array.from({ length: 2 * images }, (_, at) => BigInt(at % 2 === 0 ? height : width)),
    );
  return inputs[name]!;
}

/** A black picture of a size. */
export function blankPicture(side: number): Picture {
  const data = new Uint8Array(side * side * CHANNELS);
  return { name: "warm-up", image: { width: side, height: side, data }, hash: "" };
}

/** The warm-up of a model. Whole numbers and lists are sent as they are; of floats and pixels only the shape counts, so they are zeros. */
export function warmupRequest(
  { inputs }: Pick<ExportedModel, "inputs">,
  find: (spec: TensorSpec) => Tensor,
): WarmupRequest {
  const files = new Map<string, Uint8Array>();
  const inputOf = (spec: TensorSpec): WarmupInput => {
    const sent = find(spec);
    const type = { data_type: `TYPE_${spec.datatype}`, dims: sent.shape } as const;
    if (spec.datatype !== "INT64" && spec.dims.length > 1) return { ...type, zero_data: true };
    files.set(spec.name, bytesOf(sent));
    return { ...type, input_data_file: spec.name };
  };
  const entries = inputs.map((spec) => [spec.name, inputOf(spec)] as const);
  return { config: { name: "edit", batch_size: 1, inputs: Object.fromEntries(entries) }, files };
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
