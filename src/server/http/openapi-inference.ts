// The operations of the inference protocol in OpenAPI, and the schemas of what they take and answer.
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
import type { Schema } from "../../edit/parameters/parameter-schema.js";
import { ENSEMBLES } from "../kserve/ensemble-specs.js";
import { MODEL_NAMES } from "../kserve/model-specs.js";
import { JSON_TYPE, json, type Operation, type Statuses, TEXT } from "./openapi-operation.js";
import { ref } from "./openapi-schemas.js";

const BINARY = "application/octet-stream";
const DATATYPES = ["BOOL", "UINT8", "INT32", "INT64", "FP16", "BF16", "FP32", "BYTES"];

const MODEL: Schema = {
  name: "model",
  in: "path",
  required: true,
  schema: { enum: [...MODEL_NAMES, ...ENSEMBLES.keys()] },
};
const MODEL_VERSION: Schema = { name: "version", in: "path", required: true, schema: { const: "1" } };
const NO_MODEL = "There is no such model, or it needs a model that is not there";
const EMPTY: Schema = { description: "Done" };
const NOT_READY: Schema = {
  description: "It starts or stops, or what it needs is not there",
  content: { "text/plain": { schema: { type: "string" } } },
};

/** Failures that a request for inference may meet. */
const REFUSED: Statuses = {
  400: "The request cannot be used: the message says why",
  404: NO_MODEL,
  409: "It would replace what is there",
  413: "The request is too long",
  429: "The queue is full",
  500: "It failed",
  502: "Another machine did not answer",
  503: "The server starts or stops, or its device does not work",
  504: "It took longer than its timeout",
};

const INFER: Operation = {
  summary: "Ask a model",
  tag: "Inference",
  parameters: [
    {
      name: "Inference-Header-Content-Length",
      in: "header",
      schema: { type: "integer", minimum: 0 },
      description: "bytes of the JSON before those of the tensors; none: all is JSON",
    },
  ],
  body: { [JSON_TYPE]: { schema: ref("InferRequest") }, [BINARY]: { schema: {} } },
  answers: {
    ...REFUSED,
    200: {
      description: "The outputs: JSON, or JSON and bytes with Inference-Header-Content-Length",
      content: { [JSON_TYPE]: { schema: ref("InferAnswer") }, [BINARY]: { schema: {} } },
    },
  },
};

const OF_MODEL: Readonly<Record<string, Operation>> = {
  "GET ": {
    summary: "The inputs and outputs of a model",
    tag: "Inference",
    answers: { ...withoutBody(), 200: json("They are", "ModelMetadata") },
  },
  "GET /ready": {
    summary: "Whether a model answers",
    tag: "Inference",
    answers: { 200: TEXT, 404: NO_MODEL, 503: NOT_READY },
  },
  "GET /config": {
    summary: "The configuration of a model in Triton's form",
    tag: "Inference",
    answers: { ...withoutBody(), 200: json("It is", "ModelConfig") },
  },
  "GET /stats": {
    summary: "Counts and times of a model's requests",
    tag: "Inference",
    answers: { 200: json("They are", "ModelStatistics"), 404: NO_MODEL },
  },
  "POST /infer": INFER,
};

/** The operations. */
export const INFERENCE: Readonly<Record<string, Operation>> = withErrors({
  "GET /v2": {
    summary: "Name, version and extensions of the server",
    tag: "Inference",
    answers: { 200: json("They are", "ServerMetadata") },
  },
  "GET /v2/health/live": {
    summary: "Whether the process answers",
    tag: "Inference",
    isOpen: true,
    answers: { 200: TEXT },
  },
  "GET /v2/health/ready": {
    summary: "Whether it answers requests",
    tag: "Inference",
    isOpen: true,
    answers: { 200: TEXT, 503: NOT_READY },
  },
  "GET /v2/models/stats": {
    summary: "Counts and times of all models' requests",
    tag: "Inference",
    answers: { 200: json("They are", "ModelStatistics") },
  },
  ...ofModel("/v2/models/{model}", [MODEL]),
  ...ofModel("/v2/models/{model}/versions/{version}", [MODEL, MODEL_VERSION]),
  "POST /v2/repository/index": {
    summary: "List the models",
    tag: "Inference",
    body: { [JSON_TYPE]: { schema: ref("IndexRequest") } },
    answers: { 200: json("The models", "ModelIndex"), 400: REFUSED[400]!, 413: REFUSED[413]! },
  },
  "POST /v2/repository/models/{model}/load": {
    summary: "Open the networks of a model before they are asked for",
    tag: "Inference",
    parameters: [MODEL],
    body: { [JSON_TYPE]: { schema: ref("LoadRequest") } },
    answers: { ...REFUSED, 200: EMPTY },
  },
  "POST /v2/repository/models/{model}/unload": {
    summary: "Close the networks of a model that no job uses",
    tag: "Inference",
    parameters: [MODEL],
    body: { [JSON_TYPE]: { schema: ref("UnloadRequest") } },
    answers: { ...REFUSED, 200: EMPTY },
  },
  "GET /kserve.proto": { summary: "The protocol's messages over gRPC", tag: "Inference", answers: { 200: TEXT } },
});

function ofModel(path: string, parameters: readonly Schema[]): Readonly<Record<string, Operation>> {
  return Object.fromEntries(
    Object.entries(OF_MODEL).map(([call, operation]) => {
      const [method, rest] = call.split(" ") as [string, string];
      const own = { ...operation, parameters: [...parameters, ...(operation.parameters ?? [])] };
      return [`${method} ${path}${rest}`, own];
    }),
  );
}

function withErrors(operations: Readonly<Record<string, Operation>>): Readonly<Record<string, Operation>> {
  return Object.fromEntries(
    Object.entries(operations).map(([call, operation]) => [call, { ...operation, errors: "InferenceError" }]),
  );
}

// Of a model whose files cannot be used.
function withoutBody(): Statuses {
  const { 404: missing, 500: failed, 400: unusable } = REFUSED as Record<number, string>;
  return { 400: unusable!, 404: missing!, 500: failed! };
}

const SHAPE: Schema = { type: "array", items: { type: "integer" }, maxItems: 8 };
const PARAMETERS: Schema = { type: "object", description: "of the model, and Triton's timeout in microseconds" };

const TENSOR: Schema = {
  type: "object",
  properties: { name: { type: "string" }, datatype: { enum: DATATYPES }, shape: SHAPE },
  required: ["name", "datatype", "shape"],
};

const FILLED: Schema = {
  ...TENSOR,
  properties: {
    ...(TENSOR["properties"] as object),
    data: { type: "array", description: "elements, flat or in lists as deep as the shape; BYTES as texts or base64" },
    parameters: { type: "object", description: "binary_data_size: its bytes follow; content_type: base64" },
  },
};

const CONFIG_TENSOR: Schema = {
  type: "object",
  properties: { name: { type: "string" }, data_type: { type: "string" }, dims: SHAPE, optional: { type: "boolean" } },
  required: ["name", "data_type", "dims"],
};

const DURATION: Schema = {
  type: "object",
  properties: { count: { type: "integer" }, ns: { type: "integer" } },
  required: ["count", "ns"],
};

/** Schemas by name. */
export const INFERENCE_SCHEMAS: Readonly<Record<string, Schema>> = {
  InferenceError: { type: "object", properties: { error: { type: "string" } }, required: ["error"] },
  ServerMetadata: {
    type: "object",
    properties: {
      name: { const: "qedit" },
      version: { type: "string" },
      extensions: { type: "array", items: { type: "string" } },
    },
    required: ["name", "version", "extensions"],
  },
  ModelMetadata: {
    type: "object",
    properties: {
      name: { type: "string" },
      versions: { type: "array", items: { type: "string" } },
      platform: { type: "string" },
      inputs: { type: "array", items: TENSOR },
      outputs: { type: "array", items: TENSOR },
    },
    required: ["name", "versions", "platform", "inputs", "outputs"],
  },
  ModelConfig: {
    type: "object",
    properties: {
      name: { type: "string" },
      platform: { type: "string" },
      backend: { type: "string" },
      max_batch_size: { const: 0 },
      input: { type: "array", items: CONFIG_TENSOR },
      output: { type: "array", items: CONFIG_TENSOR },
      parameters: {
        type: "object",
        additionalProperties: {
          type: "object",
          properties: { string_value: { type: "string" } },
          required: ["string_value"],
        },
      },
      model_transaction_policy: { type: "object", properties: { decoupled: { const: false } } },
    },
    required: ["name", "platform", "max_batch_size", "input", "output"],
  },
  ModelStatistics: {
    type: "object",
    properties: {
      model_stats: {
        type: "array",
        items: {
          type: "object",
          properties: {
            name: { type: "string" },
            version: { type: "string" },
            last_inference: { type: "integer", description: "milliseconds since 1970; 0: never" },
            inference_count: { type: "integer" },
            execution_count: { type: "integer" },
            inference_stats: { type: "object", additionalProperties: DURATION },
            batch_stats: { type: "array" },
          },
          required: ["name", "version", "inference_count", "inference_stats"],
        },
      },
    },
    required: ["model_stats"],
  },
  ModelIndex: {
    type: "array",
    items: {
      type: "object",
      properties: {
        name: { type: "string" },
        version: { type: "string" },
        state: { enum: ["READY", "UNAVAILABLE"] },
        reason: { type: "string" },
      },
      required: ["name", "version", "state", "reason"],
    },
  },
  IndexRequest: {
    type: "object",
    properties: { ready: { type: "boolean", description: "only those that are ready" } },
  },
  LoadRequest: {
    type: "object",
    properties: {
      parameters: { type: "object", properties: { model: { type: "string", description: "a name of /v1/models" } } },
    },
  },
  UnloadRequest: {
    type: "object",
    properties: { parameters: { type: "object", properties: { unload_dependents: { type: "boolean" } } } },
  },
  InferRequest: {
    type: "object",
    properties: {
      id: { type: "string", maxLength: 256 },
      inputs: { type: "array", items: FILLED },
      outputs: {
        type: "array",
        items: {
          type: "object",
          properties: { name: { type: "string" }, parameters: { type: "object" } },
          required: ["name"],
        },
      },
      parameters: PARAMETERS,
    },
    required: ["inputs"],
  },
  InferAnswer: {
    type: "object",
    properties: {
      id: { type: "string" },
      model_name: { type: "string" },
      model_version: { type: "string" },
      outputs: { type: "array", items: FILLED },
      parameters: PARAMETERS,
    },
    required: ["model_name", "model_version", "outputs"],
  },
};
