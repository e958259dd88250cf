// Runs an ensemble of an exported folder as Triton does: step by step by its config.pbtxt, each model in ONNX Runtime. A model alone is one step.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Engine, Model, Session } from "../../engine/sessions/engine.js";
import type { Tensor, Tensors } from "../../std/tensor.js";
import { PREPACKING_PARAMETER } from "./member-config.js";
import {
  type ConfigTensor,
  type EnsembleStep,
  type ModelConfig,
  parseConfig,
  type TritonType,
} from "./model-config.js";
import { CONFIG_FILE, GRAPH_FILE, VERSION } from "./model-repository.js";

/** Tensor types by Triton's name. */
const TYPES: Readonly<Record<TritonType, Tensor["type"]>> = {
  TYPE_FP32: "float32",
  TYPE_INT64: "int64",
  TYPE_UINT8: "uint8",
};
/** `optimization { graph { level: 2 } }`: no optimization. */
const UNOPTIMIZED = 2;

/** Where an ensemble runs. */
export interface EnsembleRun {
  /** The exported folder. */
  readonly folder: string;
  readonly engine: Engine;
  readonly signal: AbortSignal;
}

/**
 * All tensors of an ensemble for its inputs: inputs, what the steps gave, and the output, by their names in the ensemble. A model is open while
 * steps use it one after another. Throws an Error for a tensor that is missing, or that does not have the type and shape of a config.
 */
export async function runEnsemble(
  name: string,
  inputs: Tensors,
  { folder, engine, signal }: EnsembleRun,
): Promise<Tensors> {
  const config = await readConfig(folder, name);
  for (const spec of config.input) checkTensor(spec, inputs[spec.name], name);
  const tensors: Record<string, Tensor> = { ...inputs };
  let open: { readonly model: ModelConfig; readonly session: Session } | undefined;
  try {
    for (const step of config.ensemble_scheduling?.step ?? [onlyStep(config)]) {
      signal.throwIfAborted();
      if (open?.model.name !== step.model_name) {
        await open?.session.dispose();
        open = undefined;
        const model = await readConfig(folder, step.model_name);
        open = { model, session: await engine.open(await readModel(folder, model)) };
      }
      const { model, session } = open;
      const feeds = renamed(model.input, step.input_map, (tensor) => tensors[tensor]);
      for (const spec of model.input) checkTensor(spec, feeds[spec.name], model.name);
      const results = await session.run(feeds as Tensors);
      for (const spec of model.output) {
        checkTensor(spec, results[spec.name], model.name);
        const tensor = step.output_map[spec.name];
        if (tensor !== undefined) tensors[tensor] = results[spec.name]!;
      }
    }
  } finally {
    await open?.session.dispose();
  }
  for (const spec of config.output) checkTensor(spec, tensors[spec.name], name);
  return tensors;
}

function onlyStep({ name, input, output }: ModelConfig): EnsembleStep {
  const same = (specs: readonly ConfigTensor[]) => Object.fromEntries(specs.map((spec) => [spec.name, spec.name]));
  return { model_name: name, model_version: -1, input_map: same(input), output_map: same(output) };
}

async function readConfig(folder: string, name: string): Promise<ModelConfig> {
  return parseConfig(await readFile(join(folder, name, CONFIG_FILE), "utf8"));
}

async function readModel(folder: string, config: ModelConfig): Promise<Model> {
  const { name, input } = config;
  const version = join(folder, name, VERSION);
  return {
    name,
    network: name,
    bytes: await readFile(join(version, GRAPH_FILE)),
    inputs: input.map((spec) => spec.name),
    optimization: optimizationOf(config),
    weightsRoot: version,
  };
}

function optimizationOf({ optimization, parameters }: ModelConfig): Model["optimization"] {
  if (optimization?.graph?.level === UNOPTIMIZED) return "none";
  return parameters?.[PREPACKING_PARAMETER]?.string_value === "1" ? "widened" : "full";
}

function renamed(
  specs: readonly ConfigTensor[],
  names: Readonly<Record<string, string>>,
  find: (name: string) => Tensor | undefined,
): Record<string, Tensor | undefined> {
  return Object.fromEntries(specs.map(({ name }) => [name, find(names[name] ?? "")]));
}

function checkTensor({ name, data_type, dims }: ConfigTensor, found: Tensor | undefined, model: string): void {
  const fits =
    found !== undefined &&
    found.type === TYPES[data_type] &&
    found.shape.length === dims.length &&
    dims.every((dim, axis) => dim === -1 || dim === found.shape[axis]);
  if (fits) return;
  const text = found === undefined ? "missing" : `${found.type} [${found.shape.join(", ")}]`;
  throw new Error(`${name} of ${model} is ${text}, wanted ${TYPES[data_type]} [${dims.join(", ")}]`);
}
