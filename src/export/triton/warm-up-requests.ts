// One request for each model, which Triton serves before it says that the model is ready: libraries are loaded, and memory for an edit is taken.
import type { Tensor, Tensors } from "../../std/tensor.js";
import type { ExportedModel, TensorSpec } from "./exported-model.js";
import type { Warmup, WarmupInput } from "./model-config.js";

/** A warm-up, and the files in the model's folder `warmup` that it names. */
export interface WarmupRequest {
  readonly config: Warmup;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** The warm-up of a model with given inputs. Whole numbers are sent as they are; of floats and pixels only the shape counts, so they are zeros. */
export function warmupRequest({ inputs }: Pick<ExportedModel, "inputs">, tensors: Tensors): WarmupRequest {
  const files = new Map<string, Uint8Array>();
  const inputOf = (spec: TensorSpec): WarmupInput => {
    const sent = tensors[spec.name];
    if (sent === undefined) throw new Error(`internal: no ${spec.name} for a warm-up`);
    const type = { data_type: `TYPE_${spec.datatype}`, dims: sent.shape } as const;
    if (spec.datatype !== "INT64" && spec.name !== "sigmas") return { ...type, zero_data: true };
    files.set(spec.name, bytesOf(sent));
    return { ...type, input_data_file: spec.name };
  };
  const entries = inputs.map((spec) => [spec.name, inputOf(spec)] as const);
  return { config: { name: "edit", batch_size: 1, inputs: Object.fromEntries(entries) }, files };
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
