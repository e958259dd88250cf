// The description of the HTTP interface, OpenAPI 3.1. Parameters of edits come from their table, statuses from what the routes answer.
// https://spec.openapis.org/oas/v3.1.1

import { ERRORS } from "../../edit/error-table.js";
import type { Schema } from "../../edit/parameters/parameter-schema.js";
import { ERROR_CODES } from "../../std/errors.js";
import { INFERENCE, INFERENCE_SCHEMAS } from "./openapi-inference.js";
import { FORM_TYPE, file, JSON_TYPE, json, type Operation, REFUSALS, TEXT, written } from "./openapi-operation.js";
import { COMPONENTS, ref } from "./openapi-schemas.js";

/** What a server offers. */
export interface Offer {
  readonly version: string;
  readonly hasKey: boolean;
  readonly hasMetrics: boolean;
}

/** The document. */
export function openApi({ version, hasKey, hasMetrics }: Offer): object {
  const operations: Readonly<Record<string, Operation>> = {
    ...EDITS,
    ...JOBS,
    ...SERVER,
    ...INFERENCE,
    ...(hasMetrics ? METRICS : {}),
  };
  const paths: Record<string, Record<string, object>> = {};
  for (const [call, operation] of Object.entries(operations)) {
    const [method, path] = call.split(" ") as [string, string];
    paths[path] = { ...paths[path], [method.toLowerCase()]: written(operation, hasKey) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "qedit",
      version,
      summary: "Edit pictures with words",
      description: "Models stay open between edits. OpenAI's SDKs work with the base URL of this server and `/v1`.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    tags: ["Images", "Jobs", "Server", "Inference"].map((name) => ({ name })),
    paths,
    components: {
      schemas: { ...COMPONENTS, ...INFERENCE_SCHEMAS },
      ...(hasKey && { securitySchemes: { key: { type: "http", scheme: "bearer" } } }),
    },
    ...(hasKey && { security: [{ key: [] }] }),
  };
}

const EVENTS: Schema = {
  description: "A stream of events",
  content: { "text/event-stream": { schema: { type: "string" } } },
};
const LOCATION: Schema = { Location: { schema: { type: "string" }, description: "path of the job" } };
const NO_JOB = "There is no such job";

const EDITS: Readonly<Record<string, Operation>> = {
  "POST /v1/images/edits": {
    summary: "Edit pictures, as OpenAI's API",
    tag: "Images",
    body: { [FORM_TYPE]: { schema: ref("EditForm") }, [JSON_TYPE]: { schema: ref("EditJson") } },
    answers: {
      ...REFUSALS,
      200: {
        description: "The pictures, or a stream of them",
        content: { [JSON_TYPE]: { schema: ref("Edited") }, "text/event-stream": { schema: { type: "string" } } },
      },
    },
  },
  "POST /v1/images/generations": {
    summary: "Make pictures of a prompt alone, with a model that can, as OpenAI's API",
    tag: "Images",
    body: { [JSON_TYPE]: { schema: ref("Generation") } },
    answers: {
      ...REFUSALS,
      200: {
        description: "The pictures, or a stream of them",
        content: { [JSON_TYPE]: { schema: ref("Edited") }, "text/event-stream": { schema: { type: "string" } } },
      },
    },
  },
  "GET /v1/models": {
    summary: "List the models",
    tag: "Images",
    parameters: [
      {
        name: "all",
        in: "query",
        schema: { type: "boolean" },
        description: "also those whose files are not all there",
      },
    ],
    answers: { 200: json("The models", "Models"), 400: "The query cannot be used" },
  },
  "GET /v1/models/{model}": {
    summary: "Show a model, also one whose files are not all there",
    tag: "Images",
    parameters: [{ name: "model", in: "path", required: true, schema: { type: "string" } }],
    answers: { 200: json("The model", "Model"), 404: "There is no such model" },
  },
};

const JOB_ID: Schema = { name: "id", in: "path", required: true, schema: { type: "string" } };
const PICTURES = ["image/png", "image/jpeg", "image/webp"];

const JOBS: Readonly<Record<string, Operation>> = {
  "POST /v1/jobs": {
    summary: "Accept an edit; it is done even if the server is killed and started again",
    tag: "Jobs",
    parameters: [
      {
        name: "Idempotency-Key",
        in: "header",
        schema: { type: "string", pattern: "^[!-~]{1,255}$" },
        description: "a second request with the same key gets the first one's job",
      },
    ],
    body: { [FORM_TYPE]: { schema: ref("JobForm") }, [JSON_TYPE]: { schema: ref("JobRequest") } },
    answers: { ...REFUSALS, 202: json("Accepted", "Job", LOCATION), 409: "The key belongs to another request" },
  },
  "GET /v1/jobs": {
    summary: "List the jobs, the newest first",
    tag: "Jobs",
    parameters: [{ name: "limit", in: "query", schema: { type: "integer", minimum: 1, maximum: 200 } }],
    answers: { 200: json("The jobs", "Jobs"), 400: "The query cannot be used" },
  },
  "GET /v1/jobs/{id}": {
    summary: "Show a job",
    tag: "Jobs",
    parameters: [JOB_ID],
    answers: { 200: json("The job", "Job"), 404: NO_JOB },
  },
  "DELETE /v1/jobs/{id}": {
    summary: "Cancel a job, between two steps; one that has ended stays as it is",
    tag: "Jobs",
    parameters: [JOB_ID],
    answers: { 200: json("The job", "Job"), 404: NO_JOB },
  },
  "GET /v1/jobs/{id}/events": {
    summary: "Follow a job: events `state`, `progress` and `preview`, until it has ended",
    tag: "Jobs",
    parameters: [JOB_ID],
    answers: { 200: EVENTS, 404: NO_JOB },
  },
  "GET /v1/jobs/{id}/content": {
    summary: "The picture of a job",
    tag: "Jobs",
    parameters: [JOB_ID],
    answers: {
      200: file("The picture", PICTURES),
      304: { description: "As it was" },
      404: "There is no such job, or it has no picture",
      409: "The job has not ended",
    },
  },
  "GET /v1/jobs/{id}/inputs/{number}": {
    summary: "A picture that was sent",
    tag: "Jobs",
    parameters: [
      JOB_ID,
      { name: "number", in: "path", required: true, schema: { type: "integer", minimum: 1, maximum: 999 } },
    ],
    answers: {
      200: file("The picture", [...PICTURES, "image/gif", "image/avif", "application/octet-stream"]),
      404: "There is no such picture",
    },
  },
  "GET /v1/jobs/{id}/mask": {
    summary: "The mask that was sent",
    tag: "Jobs",
    parameters: [JOB_ID],
    answers: {
      200: file("The mask", [...PICTURES, "image/gif", "image/avif", "application/octet-stream"]),
      404: "There is no mask",
    },
  },
};

const SERVER: Readonly<Record<string, Operation>> = {
  "GET /v1/status": {
    summary: "Phase, queue and open networks",
    tag: "Server",
    answers: { 200: json("The status", "Status") },
  },
  "POST /v1/models/{name}/load": {
    summary: "Open the networks of a model",
    tag: "Server",
    parameters: [{ name: "name", in: "path", required: true, schema: { type: "string" } }],
    answers: { ...REFUSALS, 200: json("They are open", "Loaded") },
  },
  "POST /v1/models/unload": {
    summary: "Close the networks that no job uses",
    tag: "Server",
    answers: { 200: json("They are closed", "Unloaded") },
  },
  "POST /v1/stop": {
    summary: "Stop the server as SIGTERM does; by its socket, or on its machine with its key",
    tag: "Server",
    answers: { 202: json("It stops", "Stopping") },
  },
  "GET /health/live": { summary: "Whether the process answers", tag: "Server", isOpen: true, answers: { 200: TEXT } },
  "GET /health/ready": {
    summary: "Whether it takes edits",
    tag: "Server",
    isOpen: true,
    answers: {
      200: TEXT,
      503: { description: "It starts or stops", content: { "text/plain": { schema: { type: "string" } } } },
    },
  },
  "GET /version": {
    summary: "Version of qedit",
    tag: "Server",
    answers: {
      200: {
        description: "The version",
        content: {
          [JSON_TYPE]: {
            schema: {
              type: "object",
              properties: { name: { type: "string" }, version: { type: "string" } },
              required: ["name", "version"],
            },
          },
        },
      },
    },
  },
};

const METRICS: Readonly<Record<string, Operation>> = {
  "GET /metrics": { summary: "Metrics for Prometheus", tag: "Server", answers: { 200: TEXT } },
};

/** Statuses of every failure, for the reference. */
export const FAILURES = ERROR_CODES.map((code) => ({ code, ...ERRORS[code] }));
