// JSON Schemas of parameters: of a batch's lines, of the HTTP interface, of tools.
import { toJsonSchema } from "@valibot/to-json-schema";
import { type Spell, spelled } from "../../std/errors.js";
import type { Parameter } from "./parameter.js";

/** A JSON Schema. */
export type Schema = Readonly<Record<string, unknown>>;

/** The JSON Schema of a parameter, draft 2020-12: what is accepted, the summary, a default that is a plain value. */
export function parameterSchema({ kind, summary, initial, initialText }: Parameter<unknown>): Schema {
  const isPlain = ["string", "number", "boolean"].includes(typeof initial) && initial !== "";
  const note = initialText === undefined ? summary : `${summary} (default: ${initialText})`;
  return { ...acceptedBy(kind), description: spelled(note, asKey), ...(isPlain ? { default: initial } : {}) };
}

const asKey: Spell = (name, value) => (value === undefined ? `"${name}"` : `"${name}": ${value}`);

function acceptedBy(kind: Parameter<unknown>["kind"]): Schema {
  if (kind.choices) return { enum: kind.choices };
  const { $schema: _, ...accepted } = toJsonSchema(kind.schema as never, {
    typeMode: "input",
    errorMode: "ignore",
    target: "draft-2020-12",
  });
  // Texts are parsed like flags.
  return kind.fromText && !kind.isSwitch ? { anyOf: [accepted, { type: "string" }] } : accepted;
}
