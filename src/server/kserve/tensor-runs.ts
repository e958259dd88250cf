// What the models of an exported folder do: an edit by tensors, as one of the server's jobs.
import { readEditTensors } from "../../edit/tensors/edit-tensors.js";
import { V2Error } from "../../kserve/v2-error.js";
import { refused, toFloat32, toInt64, type V2Tensor } from "../../kserve/v2-tensor.js";
import { shown } from "../../std/foreign-text.js";
import { type Tensor, type Tensors, tensor } from "../../std/tensor.js";
import { pixelsFault, shapeFault, tokensFault } from "../artifact-limits.js";
import { checkWork, type ServerLimits } from "../limits.js";
import type { EnsembleSpec } from "./ensemble-specs.js";
import { followed, type ModelCall, type ModelResult } from "./model-call.js";

/** Edits by tensors. Throws QeditError, V2Error. */
export async function runTensorEdit(call: ModelCall, spec: EnsembleSpec): Promise<ModelResult> {
  const { server, request, clock } = call;
  refuseParameters(request.parameters, spec);
  const { resolved } = spec;
  checkSizes(request.tensors, server.limits);
  const tensors = readEditTensors(asTensors(request.tensors), spec.ensemble, resolved.models);
  clock.phase("queue");
  const job = await server.submitTensors({ resolved, tensors, pictures: async () => tensors.pictures });
  const { width, height, device } = await followed(job, call);
  clock.phase("compute_output");
  const data = await job.content();
  const shape = [height, width, data.length / (height * width)];
  const image = { name: "image", datatype: "UINT8", shape, data } as const;
  return { outputs: [image], parameters: { device } };
}

// Triton ignores what it does not know. Here it might be meant for the model that takes pictures and a prompt.
function refuseParameters(parameters: Readonly<Record<string, unknown>>, { name }: EnsembleSpec): void {
  const [first] = Object.keys(parameters);
  if (first !== undefined)
    throw new V2Error(400, `"${shown(first)}" is no parameter of ${name}: all that counts is in its tensors`);
}

// What is too large is refused before anything is made of it.
function checkSizes(tensors: ReadonlyMap<string, V2Tensor>, limits: ServerLimits): void {
  for (const [name, { shape }] of tensors) {
    const [first = 0, second = 0] = shape;
    const fault =
      name === "noise"
        ? shapeFault(shape, limits)
        : /^image_\d+$/.test(name)
          ? pixelsFault(first * second, limits)
          : name.endsWith("input_ids")
            ? tokensFault(second)
            : undefined;
    if (fault !== undefined) throw refused(name, fault);
  }
  checkWork({ steps: tensors.get("sigmas")!.shape[0]! - 1 }, limits);
}

function asTensors(given: ReadonlyMap<string, V2Tensor>): Tensors {
  return Object.fromEntries([...given].map(([name, each]) => [name, asTensor(each)]));
}

// Datatypes are those of the model.
function asTensor(given: V2Tensor): Tensor {
  if (given.datatype === "FP32") return tensor("float32", given.shape, toFloat32(given));
  if (given.datatype === "UINT8") return tensor("uint8", given.shape, given.data);
  if (given.datatype === "INT64") return tensor("int64", given.shape, toInt64(given));
  throw new Error(`internal: no edit has a tensor of ${given.datatype}`);
}
