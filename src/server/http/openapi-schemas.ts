// The schemas of the HTTP interface: bodies of requests and answers.

import { jsonName } from "../../edit/parameters/parameter.js";
import { parameterSchema, type Schema } from "../../edit/parameters/parameter-schema.js";
import { isPath, REQUEST_PARAMETERS } from "../../edit/request/edit-request.js";
import { ERROR_CODES } from "../../std/errors.js";

/** A reference to a schema by its name. */
export function ref(name: string): Schema {
  return { $ref: `#/components/schemas/${name}` };
}

// Parameters of an edit that clients may give: those that name no file of the server.
function editParameters(): Readonly<Record<string, Schema>> {
  const open = Object.entries(REQUEST_PARAMETERS).filter(([name, parameter]) => name === "lora" || !isPath(parameter));
  return Object.fromEntries(open.map(([name, parameter]) => [jsonName(name), parameterSchema(parameter)]));
}

const PICTURE: Schema = { type: "string", contentMediaType: "image/*", contentEncoding: "base64" };
const FILE: Schema = { type: "string", contentMediaType: "application/octet-stream" };
const NAMED_BYTES: Schema = {
  type: "object",
  properties: { name: { type: "string", description: "file name, for messages and the recipe" }, data: PICTURE },
  required: ["data"],
};

const ERROR: Schema = {
  type: "object",
  properties: {
    error: {
      type: "object",
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"], description: "the parameter that it is about" },
        code: { type: ["string", "null"], description: "stable name of the failure" },
        qedit_code: { type: ["string", "null"], description: `as on the command line: ${ERROR_CODES.join(", ")}` },
        hint: { type: ["string", "null"], description: "what to do" },
      },
      required: ["message", "type", "param", "code"],
    },
  },
  required: ["error"],
};

const INPUT: Schema = {
  type: "object",
  properties: { name: { type: "string" }, sha256: { type: "string" } },
  required: ["name", "sha256"],
};

const JOB: Schema = {
  type: "object",
  properties: {
    id: { type: "string", format: "uuid" },
    state: { enum: ["queued", "running", "completed", "failed", "cancelled"] },
    created: { type: "string", format: "date-time" },
    started: { type: "string", format: "date-time" },
    ended: { type: "string", format: "date-time" },
    position: { type: "integer", description: "place in the queue, 1 is next" },
    stage: { type: "string", description: "encode-image, encode-prompt, sample or decode" },
    step: { type: "integer" },
    steps: { type: "integer" },
    eta: { type: "number", description: "seconds until sampling ends" },
    parameters: { type: "object", description: "as they were given" },
    inputs: { type: "array", items: INPUT },
    mask: INPUT,
    result: {
      type: "object",
      properties: {
        sha256: { type: "string" },
        type: { type: "string", description: "MIME type" },
        bytes: { type: "integer" },
        width: { type: "integer" },
        height: { type: "integer" },
        seed: { type: "string", description: "in decimal: it has up to 64 bits" },
        drift: { type: ["object", "null"], description: "zoom and shift against picture 1" },
        device: { type: "string" },
        seconds: { type: "object", additionalProperties: { type: "number" }, description: "by stage" },
        recipe: { type: "object", description: "everything that determined the picture" },
      },
    },
    error: {
      type: "object",
      properties: { code: { type: "string" }, message: { type: "string" }, hint: { type: "string" } },
      required: ["code", "message"],
    },
  },
  required: ["id", "state", "created", "parameters", "inputs"],
};

const EDIT: Schema = {
  type: "object",
  description: "OpenAI's fields and those of servers that extend them; the parameters of a job are taken as well",
  properties: {
    prompt: { type: "string", minLength: 1 },
    model: { type: "string", description: "a name of /v1/models" },
    n: { type: "integer", minimum: 1, maximum: 10, description: "pictures, with seeds that follow each other" },
    size: { type: "string", description: "auto or WIDTHxHEIGHT, multiples of 16, or of 32 with Qwen-Image-2.1" },
    quality: {
      enum: ["auto", "low", "medium", "high", "standard"],
      description: "low: the model's Lightning LoRA; high: its preset of more steps",
    },
    output_format: { enum: ["png", "jpeg", "webp"] },
    output_compression: { type: "integer", minimum: 0, maximum: 100, description: "quality of jpeg and webp" },
    background: { enum: ["auto", "opaque"] },
    response_format: { enum: ["b64_json"] },
    stream: {
      type: "boolean",
      description:
        "server-sent events: image_edit.partial_image, image_edit.completed (of a generation image_generation.…), error",
    },
    partial_images: { type: "integer", minimum: 0, maximum: 3 },
    seed: parameterSchema(REQUEST_PARAMETERS.seed),
    num_inference_steps: parameterSchema(REQUEST_PARAMETERS.steps),
    true_cfg_scale: parameterSchema(REQUEST_PARAMETERS.cfg),
    negative_prompt: parameterSchema(REQUEST_PARAMETERS.negativePrompt),
    lora: {
      description: "names, or strengths by name",
      oneOf: [
        { type: "string" },
        { type: "array", items: { type: "string" } },
        { type: "object", additionalProperties: { type: "number" } },
      ],
    },
    keep_alive: {
      type: ["string", "number"],
      description: "how long the networks stay open after it: seconds, 5m, 0, forever",
    },
    user: { type: "string", description: "no effect" },
  },
  required: ["prompt"],
};

const EDITED: Schema = {
  type: "object",
  properties: {
    created: { type: "integer", description: "seconds since 1970" },
    data: {
      type: "array",
      items: { type: "object", properties: { b64_json: PICTURE, seed: { type: "string" } }, required: ["b64_json"] },
    },
    size: { type: "string" },
    quality: { type: "string" },
    background: { type: "string" },
    output_format: { type: "string" },
  },
  required: ["created", "data"],
};

const MODEL: Schema = {
  type: "object",
  properties: {
    id: { type: "string" },
    object: { const: "model" },
    created: { type: "integer" },
    owned_by: { type: "string" },
    summary: { type: "string" },
    is_complete: { type: "boolean", description: "whether all its files are on the server's disk" },
    is_default: { type: "boolean" },
    generates: { type: "boolean", description: "whether it makes a picture of a prompt alone" },
    presets: { type: "array", items: { type: "string" } },
    loras: { type: "array", items: { type: "string" } },
  },
  required: ["id", "object", "created", "owned_by"],
};

const MODELS: Schema = {
  type: "object",
  properties: { object: { const: "list" }, data: { type: "array", items: ref("Model") } },
  required: ["object", "data"],
};

/** Schemas by name, of bodies and answers. */
export const COMPONENTS: Readonly<Record<string, Schema>> = {
  Error: ERROR,
  Job: JOB,
  Jobs: { type: "object", properties: { jobs: { type: "array", items: ref("Job") } }, required: ["jobs"] },
  JobRequest: {
    type: "object",
    properties: {
      images: { type: "array", items: NAMED_BYTES, minItems: 1, description: "in the order the prompt counts them" },
      mask: { ...NAMED_BYTES, description: "white where the edit belongs; with paste_back or crop_mask" },
      previews: { type: "boolean", description: "whether /events has previews" },
      ...editParameters(),
    },
    required: ["images", "prompt"],
    additionalProperties: false,
  },
  JobForm: {
    type: "object",
    properties: {
      image: {
        type: "array",
        items: FILE,
        description: "in the order the prompt counts them; none where the model makes pictures of a prompt alone",
      },
      mask: { ...FILE, description: "white where the edit belongs; with paste_back or crop_mask" },
      previews: { type: "boolean", description: "whether /events has previews" },
      ...editParameters(),
    },
    required: ["prompt"],
    additionalProperties: false,
  },
  EditForm: {
    ...EDIT,
    properties: {
      ...(EDIT["properties"] as object),
      image: { type: "array", items: FILE, description: "also image[], or image[0], image[1], …" },
      mask: { ...FILE, description: "transparent where the edit belongs" },
    },
    required: ["prompt", "image"],
  },
  EditJson: {
    ...EDIT,
    properties: {
      ...(EDIT["properties"] as object),
      images: {
        type: "array",
        minItems: 1,
        items: {
          type: "object",
          properties: { image_url: { type: "string", description: "a data URL" } },
          required: ["image_url"],
        },
      },
      mask: { type: "object", properties: { image_url: { type: "string" } }, required: ["image_url"] },
    },
    required: ["prompt", "images"],
  },
  Generation: EDIT,
  Edited: EDITED,
  Model: MODEL,
  Models: MODELS,
  Loaded: {
    type: "object",
    properties: { model: { type: "string" }, seconds: { type: "number" } },
    required: ["model", "seconds"],
  },
  Unloaded: {
    type: "object",
    properties: {
      closed: { type: "integer", description: "networks" },
      bytes: { type: "integer", description: "of their weights" },
      open: { type: "integer", description: "networks that a job uses" },
    },
    required: ["closed", "bytes", "open"],
  },
  Stopping: {
    type: "object",
    properties: {
      phase: { const: "draining" },
      pid: { type: "integer", description: "of its process" },
      queued: { type: "integer" },
      running: { type: "integer" },
    },
    required: ["phase", "pid", "queued", "running"],
  },
  Status: {
    type: "object",
    properties: {
      version: { type: "string" },
      phase: { enum: ["starting", "ready", "draining"] },
      device: { type: "string" },
      elsewhere: { type: "array", items: { type: "string" }, description: "stages that run on other machines" },
      queued: { type: "integer" },
      running: { type: "integer" },
      limits: { type: "object" },
      jobs: { type: "array", items: { type: "object" }, description: "those that run: id, stage, step, steps, eta" },
      sessions: { type: "array", items: { type: "object" } },
    },
    required: ["version", "phase", "device", "elsewhere", "queued", "running"],
  },
};
