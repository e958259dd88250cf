// config.pbtxt: the parts of Triton's ModelConfig that an export writes and reads again. Names and numbers of the fields are those of
// https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto (BSD-3-Clause).
import textformat from "protobufjs/ext/textformat.js";
import protobuf from "protobufjs/light.js";
import type { Datatype } from "./exported-model.js";

/** Triton's name of a datatype. */
export type TritonType = `TYPE_${Datatype}`;

/** A tensor of a model. */
export interface ConfigTensor {
  readonly name: string;
  readonly data_type: TritonType;
  readonly dims: readonly number[];
}

/** One request that a model serves before it is ready. */
export interface Warmup {
  readonly name: string;
  readonly batch_size: number;
  readonly inputs: Readonly<Record<string, WarmupInput>>;
}

/** One tensor of a warm-up: zeros, or the bytes of a file in the model's folder `warmup`. */
export type WarmupInput = { readonly data_type: TritonType; readonly dims: readonly number[] } & (
  | { readonly zero_data: true }
  | { readonly input_data_file: string }
);

/** A step of an ensemble: tensors of the model by name, each with the tensor of the ensemble that it is. */
export interface EnsembleStep {
  readonly model_name: string;
  /** -1: the newest that is served. */
  readonly model_version: number;
  readonly input_map: Readonly<Record<string, string>>;
  readonly output_map: Readonly<Record<string, string>>;
}

interface Accelerator {
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** A model's configuration. */
export interface ModelConfig {
  readonly name: string;
  readonly platform?: string;
  readonly backend?: string;
  readonly max_batch_size: number;
  readonly input: readonly ConfigTensor[];
  readonly output: readonly ConfigTensor[];
  readonly version_policy?: { readonly latest: { readonly num_versions: number } };
  readonly instance_group?: readonly {
    readonly kind: "KIND_GPU" | "KIND_CPU";
    readonly count: number;
    readonly gpus?: readonly number[];
  }[];
  readonly dynamic_batching?: {
    readonly default_queue_policy: {
      readonly timeout_action: "REJECT";
      readonly default_timeout_microseconds: number;
      readonly max_queue_size: number;
    };
  };
  readonly optimization?: {
    readonly graph?: { readonly level: number };
    readonly execution_accelerators?: { readonly gpu_execution_accelerator: readonly Accelerator[] };
  };
  readonly parameters?: Readonly<Record<string, { readonly string_value: string }>>;
  readonly ensemble_scheduling?: { readonly step: readonly EnsembleStep[] };
  readonly model_warmup?: readonly Warmup[];
}

const field = (id: number, type: string) => ({ id, type });
const repeated = (id: number, type: string) => ({ id, type, rule: "repeated" });
const map = (id: number, type: string) => ({ id, type, keyType: "string" });

const schema = protobuf.Root.fromJSON({
  nested: {
    ModelConfig: {
      fields: {
        name: field(1, "string"),
        platform: field(2, "string"),
        backend: field(17, "string"),
        version_policy: field(3, "ModelVersionPolicy"),
        max_batch_size: field(4, "int32"),
        input: repeated(5, "ModelInput"),
        output: repeated(6, "ModelOutput"),
        instance_group: repeated(7, "ModelInstanceGroup"),
        dynamic_batching: field(11, "ModelDynamicBatching"),
        optimization: field(12, "ModelOptimizationPolicy"),
        parameters: map(14, "ModelParameter"),
        ensemble_scheduling: field(15, "ModelEnsembling"),
        model_warmup: repeated(16, "ModelWarmup"),
      },
    },
    DataType: { values: { TYPE_INVALID: 0, TYPE_UINT8: 2, TYPE_INT64: 9, TYPE_FP32: 11 } },
    ModelVersionPolicy: {
      fields: { latest: field(1, "Latest") },
      nested: { Latest: { fields: { num_versions: field(1, "uint32") } } },
    },
    ModelInput: { fields: { name: field(1, "string"), data_type: field(2, "DataType"), dims: repeated(4, "int64") } },
    ModelOutput: { fields: { name: field(1, "string"), data_type: field(2, "DataType"), dims: repeated(3, "int64") } },
    ModelInstanceGroup: {
      fields: { kind: field(4, "Kind"), count: field(2, "int32"), gpus: repeated(3, "int32") },
      nested: { Kind: { values: { KIND_AUTO: 0, KIND_GPU: 1, KIND_CPU: 2 } } },
    },
    ModelDynamicBatching: { fields: { default_queue_policy: field(6, "ModelQueuePolicy") } },
    ModelQueuePolicy: {
      fields: {
        timeout_action: field(1, "TimeoutAction"),
        default_timeout_microseconds: field(2, "uint64"),
        max_queue_size: field(4, "uint32"),
      },
      nested: { TimeoutAction: { values: { REJECT: 0, DELAY: 1 } } },
    },
    ModelOptimizationPolicy: {
      fields: { graph: field(1, "Graph"), execution_accelerators: field(5, "ExecutionAccelerators") },
      nested: {
        Graph: { fields: { level: field(1, "int32") } },
        ExecutionAccelerators: {
          fields: { gpu_execution_accelerator: repeated(1, "Accelerator") },
          nested: { Accelerator: { fields: { name: field(1, "string"), parameters: map(2, "string") } } },
        },
      },
    },
    ModelParameter: { fields: { string_value: field(1, "string") } },
    ModelEnsembling: {
      fields: { step: repeated(1, "Step") },
      nested: {
        Step: {
          fields: {
            model_name: field(1, "string"),
            model_version: field(2, "int64"),
            input_map: map(3, "string"),
            output_map: map(4, "string"),
          },
        },
      },
    },
    ModelWarmup: {
      fields: { name: field(1, "string"), batch_size: field(2, "uint32"), inputs: map(3, "Input") },
      nested: {
        Input: {
          oneofs: { input_data_type: { oneof: ["zero_data", "input_data_file"] } },
          fields: {
            data_type: field(1, "DataType"),
            dims: repeated(2, "int64"),
            zero_data: field(3, "bool"),
            input_data_file: field(5, "string"),
          },
        },
      },
    },
  },
});
const Config = schema.lookupType("ModelConfig");

/** The text of a config.pbtxt. */
export function configText(config: ModelConfig): string {
  return `${textformat.toText(Config, config)}\n`;
}

/** Reads a config.pbtxt that configText wrote. Throws for a text of another form, and for fields that an export does not write. */
export function parseConfig(text: string): ModelConfig {
  const message = textformat.fromText(Config, text);
  return Config.toObject(message, { longs: Number, enums: String, arrays: true, objects: true }) as ModelConfig;
}
