// Ensembles: the models of an export joined to whole edits. An ensemble has no branches, no constants and no optional members, so each number of
// pictures has its own, and so has guidance.
import { type EnsembleKind, ensembleName } from "../../edit/remote/exported-facts.js";
import type { ExportedModel, TensorSpec } from "./exported-model.js";
import type { ConfigTensor, EnsembleStep, ModelConfig } from "./model-config.js";

/** An ensemble with its tensors as clients need them. */
export interface Ensemble extends EnsembleKind {
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly steps: readonly EnsembleStep[];
}

/** A step as it is written here: tensors of the model that have another name in the ensemble, as `model: ensemble`. */
export interface WrittenStep {
  readonly model: string;
  readonly inputs?: Readonly<Record<string, string>>;
  readonly outputs?: Readonly<Record<string, string>>;
  /** Outputs of the model that are not for the ensemble: the server drops them. */
  readonly unread?: readonly string[];
}

/** Joins models to a whole edit. Throws when the tensors of two models do not fit. */
export function ensembleOf(kind: EnsembleKind, models: ReadonlyMap<string, Tensored>): Ensemble {
  const encoded = models.get("encode_prompt")?.outputs ?? [];
  const placesImages = encoded.some(({ name }) => name === "image_positions");
  return { ...kind, ...joined(ensembleName(kind), editSteps(kind, placesImages), models) };
}

type Tensored = Pick<ExportedModel, "inputs" | "outputs">;

/** Joins models by steps; what no step gives is an input. Throws when the tensors of two models do not fit, and unless one output is left. */
export function joined(
  name: string,
  written: readonly WrittenStep[],
  models: ReadonlyMap<string, Tensored>,
): Pick<Ensemble, "name" | "inputs" | "outputs" | "steps"> {
  const inputs = new Map<string, TensorSpec>();
  const made = new Map<string, TensorSpec>();
  const used = new Set<string>();
  const steps = written.map(({ model: of, inputs: renamed = {}, outputs: given = {}, unread = [] }): EnsembleStep => {
    const model = models.get(of);
    if (model === undefined) throw new Error(`internal: ${name} needs the model ${of}`);
    const inputMap = mapOf(model.inputs, renamed);
    const outputs = model.outputs.filter((spec) => !unread.includes(spec.name));
    const outputMap = mapOf(outputs, given);
    for (const spec of model.inputs) {
      const tensor = inputMap[spec.name]!;
      const source = made.get(tensor) ?? inputs.get(tensor);
      if (source !== undefined) refuseUnfit(source, spec, `${tensor} of ${name} for ${of}`);
      else inputs.set(tensor, { ...spec, name: tensor });
      if (made.has(tensor)) used.add(tensor);
    }
    for (const spec of outputs) made.set(outputMap[spec.name]!, { ...spec, name: outputMap[spec.name]! });
    return { model_name: of, model_version: -1, input_map: inputMap, output_map: outputMap };
  });
  // A request for some outputs only would wait for ever if one of them were read by a later step too.
  const outputs = [...made.values()].filter(({ name: tensor }) => !used.has(tensor));
  if (outputs.length !== 1) throw new Error(`internal: ${name} has ${outputs.length} outputs`);
  return { name, inputs: [...inputs.values()], outputs, steps };
}

/** The config.pbtxt of an ensemble. */
export function ensembleConfig({
  name,
  inputs,
  outputs,
  steps,
}: Pick<Ensemble, "name" | "inputs" | "outputs" | "steps">): ModelConfig {
  return {
    name,
    platform: "ensemble",
    max_batch_size: 0,
    input: inputs.map(configTensor),
    output: outputs.map(configTensor),
    ensemble_scheduling: { step: steps },
  };
}

/** A tensor as a config has it. */
export function configTensor({ name, datatype, dims }: TensorSpec): ConfigTensor {
  return { name, data_type: `TYPE_${datatype}`, dims };
}

function editSteps({ images, hasCfg }: EnsembleKind, placesImages: boolean): WrittenStep[] {
  const numbers = Array.from({ length: images }, (_, index) => index + 1);
  return [
    ...numbers.map((number) => ({
      model: "encode_image",
      inputs: { image: `image_${number}` },
      outputs: { latent: `latent_${number}` },
      unread: ["vae_latent"],
    })),
    { model: `join_${images}` },
    { model: "encode_prompt" },
    ...(hasCfg
      ? [
          {
            model: "encode_prompt",
            inputs: { input_ids: "negative_input_ids" },
            outputs: {
              prompt_embeds: "negative_prompt_embeds",
              ...(placesImages && { image_positions: "negative_image_positions" }),
            },
          },
        ]
      : []),
    { model: hasCfg ? "sample_cfg" : "sample" },
    { model: "decode" },
  ];
}

function mapOf(specs: readonly TensorSpec[], renamed: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(specs.map(({ name }) => [name, renamed[name] ?? name]));
}

function refuseUnfit(from: TensorSpec, to: TensorSpec, where: string): void {
  const fits =
    from.datatype === to.datatype &&
    from.dims.length === to.dims.length &&
    from.dims.every((dim, axis) => dim === -1 || to.dims[axis] === -1 || dim === to.dims[axis]);
  if (fits) return;
  const text = ({ datatype, dims }: TensorSpec) => `${datatype} [${dims.join(", ")}]`;
  throw new Error(`internal: ${where} is ${text(from)}, wanted ${text(to)}`);
}
