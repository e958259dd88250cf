// The models that the inference protocol shows: the four stages with the tensors of their artifacts, and the whole edit. Outputs of a stage have
// the names of the next one's inputs.

import { jsonName } from "../../edit/parameters/parameter.js";
import { REQUEST_PARAMETERS } from "../../edit/request/edit-request.js";
import { STAGE_REQUEST_PARAMETERS } from "../../edit/request/stage-request.js";
import { VERSION } from "../../kserve/infer-request.js";
import { V2Error } from "../../kserve/v2-error.js";
import type { Datatype } from "../../kserve/v2-tensor.js";
import { shown } from "../../std/foreign-text.js";
import type { ServerLimits } from "../limits.js";

/** An input or an output; -1 is any length. */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly isOptional?: boolean;
}

/** Names of the models. */
export const MODEL_NAMES = ["encode_image", "encode_prompt", "sample", "decode", "qedit"] as const;

/** Name of a model. */
export type ModelName = (typeof MODEL_NAMES)[number];

/** A model as the protocol shows it. */
export interface ModelSpec {
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** JSON names of the parameters that a request may have, besides the tensors. */
  readonly parameters: readonly string[];
  /** The input whose one element a body without JSON is. */
  readonly rawInput?: string;
  /** What its configuration says besides, as Triton's `parameters`. */
  readonly config?: Readonly<Record<string, string>>;
}

/** A model of qedit's own form. */
export interface OwnSpec extends ModelSpec {
  readonly name: ModelName;
}

/** https://github.com/triton-inference-server/backend: names in configs; ours are neither ONNX files nor ensembles. */
const PLATFORM = "qedit";

/** Names of inputs that stand for parameters of an edit, with the parameters' JSON names. */
export const PARAMETER_INPUTS: Readonly<Record<string, string>> = {
  PROMPT: "prompt",
  NEGATIVE_PROMPT: "negative_prompt",
  SEED: "seed",
  STEPS: "steps",
  CFG: "cfg",
  SIZE: "size",
  LORA: "lora",
};

const LATENT = [1, -1, -1, -1];
const EMBEDS = [1, -1, -1];

const optional = (name: string, datatype: Datatype, shape: readonly number[]): TensorSpec => ({
  ...{ name, datatype, shape },
  isOptional: true,
});
const needed = (name: string, datatype: Datatype, shape: readonly number[]): TensorSpec => ({ name, datatype, shape });

const names = (table: object) => Object.keys(table).map(jsonName);

/** The models of a server that takes so many pictures. */
export function modelSpecs({ pictures }: Pick<ServerLimits, "pictures">): readonly OwnSpec[] {
  const references = Array.from({ length: pictures }, (_, index) =>
    optional(`reference_latents.${index}`, "FP32", LATENT),
  );
  const latents = [needed("latent", "FP32", LATENT), ...references];
  const cond = [
    ...[needed("prompt_embeds", "FP32", EMBEDS), optional("negative_prompt_embeds", "FP32", EMBEDS)],
    ...[optional("image_positions", "INT32", [-1]), optional("negative_image_positions", "INT32", [-1])],
  ];
  const image = [needed("IMAGE", "BYTES", [-1]), optional("IMAGE_NAMES", "BYTES", [-1])];
  const prompt = [needed("PROMPT", "BYTES", [1]), optional("NEGATIVE_PROMPT", "BYTES", [1])];
  const sampling = [optional("SEED", "INT64", [1]), optional("STEPS", "INT32", [1]), optional("CFG", "FP32", [1])];
  const [size, lora] = [optional("SIZE", "INT32", [2]), optional("LORA", "BYTES", [-1])];
  const region = optional("REGION", "INT32", [4]);
  const picture = [needed("IMAGE", "BYTES", [1]), needed("RECIPE", "BYTES", [1])];
  return [
    {
      name: "encode_image",
      inputs: [...image, size, region],
      outputs: [...latents, needed("latents_record", "BYTES", [1])],
      parameters: names(STAGE_REQUEST_PARAMETERS["encode-image"]),
      rawInput: "IMAGE",
    },
    {
      name: "encode_prompt",
      inputs: [...prompt, ...image.map((each) => ({ ...each, isOptional: true })), region],
      outputs: [...cond, needed("cond_record", "BYTES", [1])],
      parameters: names(STAGE_REQUEST_PARAMETERS["encode-prompt"]),
    },
    {
      name: "sample",
      inputs: [
        ...latents,
        optional("latents_record", "BYTES", [1]),
        ...cond,
        optional("cond_record", "BYTES", [1]),
        ...sampling,
        lora,
      ],
      outputs: [needed("latent_tensor", "FP32", LATENT), needed("samples_record", "BYTES", [1])],
      parameters: names(STAGE_REQUEST_PARAMETERS.sample),
    },
    {
      name: "decode",
      inputs: [needed("latent_tensor", "FP32", LATENT), optional("samples_record", "BYTES", [1])],
      outputs: picture,
      parameters: names(STAGE_REQUEST_PARAMETERS.decode),
    },
    {
      name: "qedit",
      inputs: [
        ...prompt,
        ...image,
        ...[optional("MASK", "BYTES", [1]), optional("MASK_NAME", "BYTES", [1])],
        ...[...sampling, size, lora],
      ],
      outputs: picture,
      parameters: names(REQUEST_PARAMETERS),
    },
  ];
}

/** The answer to a question for a model's metadata. */
export function metadataOf({ name, inputs, outputs }: ModelSpec) {
  const shownTensor = ({ name, datatype, shape }: TensorSpec) => ({ name, datatype, shape: [...shape] });
  return {
    name,
    versions: [VERSION],
    platform: PLATFORM,
    inputs: inputs.map(shownTensor),
    outputs: outputs.map(shownTensor),
  };
}

/** The model's configuration in Triton's form, which performance tools read: nothing is batched, dims are whole shapes. */
export function configOf({ name, inputs, outputs, config = {} }: ModelSpec) {
  const typed = ({ name, datatype, shape }: TensorSpec) => ({
    name,
    data_type: datatype === "BYTES" ? "TYPE_STRING" : `TYPE_${datatype}`,
    dims: [...shape],
  });
  return {
    name,
    platform: PLATFORM,
    backend: PLATFORM,
    max_batch_size: 0,
    input: inputs.map((each) => ({ ...typed(each), optional: each.isOptional ?? false })),
    output: outputs.map(typed),
    parameters: Object.fromEntries(Object.entries(config).map(([key, text]) => [key, { string_value: text }])),
    model_transaction_policy: { decoupled: false },
  };
}

/** Refuses outputs that a model does not have. */
export function refuseUnknownOutputs({ name, outputs }: ModelSpec, wanted: readonly { readonly name: string }[]): void {
  const seen = new Set<string>();
  for (const { name: output } of wanted) {
    if (!outputs.some((each) => each.name === output))
      throw new V2Error(
        400,
        `"${shown(output)}" is no output of ${name}: it has ${outputs.map((each) => each.name).join(", ")}`,
      );
    if (seen.has(output)) throw new V2Error(400, `The output "${output}" is wanted twice`);
    seen.add(output);
  }
}
