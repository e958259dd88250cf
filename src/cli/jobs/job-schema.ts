// The JSON schema of a batch's lines, generated from the parameters; editors check and complete with it. Settings files have the same keys.
import { jsonName, type Parameter } from "../../edit/parameters/parameter.js";
import { parameterSchema, type Schema } from "../../edit/parameters/parameter-schema.js";
import { cacheOptions } from "../settings/shared-options.js";
import { runOptions } from "./run-options.js";

const SHARED = new Set<string>(["device", "threads", ...Object.keys(cacheOptions)]);

/** The schema of one line, JSON Schema draft 2020-12. */
export function jobSchema(): Schema {
  const parameters = Object.entries(runOptions).filter(([key]) => !SHARED.has(key));
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "A job of qedit batch",
    type: "object",
    properties: {
      images: {
        type: "array",
        items: { type: "string", minLength: 1 },
        minItems: 1,
        description: "pictures, in the order the prompt counts them; relative paths are taken from the jobs file",
      },
      ...Object.fromEntries(parameters.flatMap(([key, parameter]) => propertiesOf(key, parameter))),
    },
    required: ["images"],
    additionalProperties: false,
  };
}

// All spellings of a key: with underscores, with dashes, and aliases.
function propertiesOf(key: string, parameter: Parameter<unknown>): (readonly [string, Schema])[] {
  const name = jsonName(key);
  const schema = parameterSchema(parameter);
  const others = new Set([name.replaceAll("_", "-"), ...(parameter.aliases ?? [])]);
  others.delete(name);
  return [[name, schema], ...[...others].map((other) => [other, { ...schema, deprecated: true }] as const)];
}
