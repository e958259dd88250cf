// An operation of the HTTP interface, and its form in OpenAPI.
import type { Schema } from "../../edit/parameters/parameter-schema.js";
import { ref } from "./openapi-schemas.js";

/** What is answered, by status; a text describes an error. */
export type Statuses = Readonly<Record<number, Schema | string>>;

/** An operation. */
export interface Operation {
  readonly summary: string;
  readonly tag: string;
  readonly parameters?: readonly Schema[];
  readonly body?: Schema;
  readonly answers: Statuses;
  /** Whether it is answered without a key. */
  readonly isOpen?: boolean;
  /** Name of the schema of its errors; default: Error. */
  readonly errors?: string;
}

/** MIME types. */
export const JSON_TYPE = "application/json";
export const FORM_TYPE = "multipart/form-data";

/** An operation in OpenAPI. */
export function written(
  { summary, tag, parameters, body, answers, isOpen = false, errors = "Error" }: Operation,
  hasKey: boolean,
): object {
  const all: Statuses = {
    ...answers,
    ...(hasKey && !isOpen && { 401: "The key is missing or wrong" }),
    403: "The request comes from another site",
  };
  return {
    summary,
    tags: [tag],
    ...(parameters && { parameters }),
    ...(body && { requestBody: { required: true, content: body } }),
    responses: Object.fromEntries(Object.entries(all).map(([status, answer]) => [status, response(answer, errors)])),
    ...(isOpen && hasKey && { security: [] }),
  };
}

// A text describes an error.
function response(answer: Schema | string, errors: string): Schema {
  if (typeof answer !== "string") return answer;
  return { description: answer, content: { [JSON_TYPE]: { schema: ref(errors) } } };
}

/** An answer in JSON by the name of its schema. */
export function json(description: string, name: string, headers?: Schema): Schema {
  return { description, content: { [JSON_TYPE]: { schema: ref(name) } }, ...(headers && { headers }) };
}

/** An answer of bytes. */
export function file(description: string, types: readonly string[]): Schema {
  return { description, content: Object.fromEntries(types.map((type) => [type, { schema: {} }])) };
}

/** An answer of a text. */
export const TEXT: Schema = { description: "It is", content: { "text/plain": { schema: { type: "string" } } } };

/** Failures that any request with a body may meet. */
export const REFUSALS: Statuses = {
  400: "The request cannot be used: the message says why",
  404: "A model or LoRA is not there",
  413: "The request is too long",
  415: "The body is neither JSON nor a form",
  429: "The queue is full",
  500: "The edit failed",
  502: "A picture could not be fetched",
  503: "The server is stopping, or its device does not work",
};
