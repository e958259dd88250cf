// The config.pbtxt of a model with a graph, for Triton's ONNX Runtime backend.
import { configTensor } from "./ensembles.js";
import type { ExportedModel } from "./exported-model.js";
import type { ModelConfig, Warmup } from "./model-config.js";

/** Requests that wait for a model; more are refused. */
export const MAX_QUEUE = 16;
/** Microseconds that a request waits at most: ten minutes. */
const QUEUE_TIMEOUT = 600_000_000;

/** Level of ONNX Runtime's graph optimizations, as the backend numbers it: 2 is none. */
const UNOPTIMIZED = 2;

/** What keeps ONNX Runtime from laying out weights for products: then those that are widened once give the numbers of those that are not. */
export const PREPACKING_PARAMETER = "session.disable_prepacking";

/** Where models run. */
export interface Placement {
  /** CUDA's numbers of the GPUs, each with an instance of each model; undefined: the CPU. */
  readonly gpus: readonly number[] | undefined;
  /** Bytes beside its weights that each model may take on a GPU, by name; undefined: no limit. */
  readonly memoryLimits: ReadonlyMap<string, number> | undefined;
}

/** The config of a model. */
export function memberConfig(
  { name, inputs, outputs, optimization }: Pick<ExportedModel, "name" | "inputs" | "outputs" | "optimization">,
  { gpus, memoryLimits }: Placement,
  warmup: Warmup | undefined,
): ModelConfig {
  const isUnoptimized = optimization === "none";
  return {
    name,
    backend: "onnxruntime",
    max_batch_size: 0,
    input: inputs.map(configTensor),
    output: outputs.map(configTensor),
    version_policy: { latest: { num_versions: 1 } },
    // Without a count the server opens two instances on a CPU: two copies of the weights.
    instance_group: [gpus === undefined ? { kind: "KIND_CPU", count: 1 } : { kind: "KIND_GPU", count: 1, gpus }],
    // Nothing is batched: it bounds the queue.
    dynamic_batching: {
      default_queue_policy: {
        timeout_action: "REJECT",
        default_timeout_microseconds: QUEUE_TIMEOUT,
        max_queue_size: MAX_QUEUE,
      },
    },
    ...((isUnoptimized || gpus !== undefined) && {
      optimization: {
        ...(isUnoptimized && { graph: { level: UNOPTIMIZED } }),
        ...(gpus !== undefined && {
          execution_accelerators: {
            gpu_execution_accelerator: [{ name: "cuda", parameters: { cudnn_conv_use_max_workspace: "0" } }],
          },
        }),
      },
    }),
    ...parametersOf({
      ...(gpus !== undefined && gpuSettings(memoryLimits?.get(name))),
      ...(optimization === "widened" && { [PREPACKING_PARAMETER]: "1" }),
    }),
    ...(warmup && { model_warmup: [warmup] }),
  };
}

// These belong here and not to the accelerator "cuda": as soon as a config has parameters, the backend writes its defaults over the accelerator's.
function gpuSettings(memoryLimit: number | undefined): Readonly<Record<string, string>> {
  return {
    // HEURISTIC: the exhaustive search makes the first run of every size slow.
    cudnn_conv_algo_search: "1",
    // kSameAsRequested: the arena does not double.
    arena_extend_strategy: "1",
    ...(memoryLimit !== undefined && { gpu_mem_limit: String(memoryLimit) }),
    // Weights outside of the arena, which would round them up.
    "session.use_device_allocator_for_initializers": "1",
  };
}

function parametersOf(settings: Readonly<Record<string, string>>): Pick<ModelConfig, "parameters"> {
  const parameters = Object.entries(settings).map(([key, value]) => [key, { string_value: value }]);
  return parameters.length === 0 ? {} : { parameters: Object.fromEntries(parameters) };
}
