// The Avro schemas of the messages, made from the table of parameters. Those in schemas/ are these, written out; what was released is in schemas/released.
import { jsonName, type Parameter } from "../../edit/parameters/parameter.js";
import { parameterSchema, type Schema } from "../../edit/parameters/parameter-schema.js";
import { isPath, REQUEST_PARAMETERS } from "../../edit/request/edit-request.js";
import { STAGES, type StageName } from "../../stages/stage.js";

/** Names of the schemas; the files in schemas/ are named so. */
export const SCHEMA_NAMES = [
  ...(["run.request", "run.response"] as const),
  ...STAGES.flatMap((stage) => [`${stage}.request`, `${stage}.response`] as const),
  ...(["progress", "error"] as const),
] as const;

/** Name of a schema. */
export type SchemaName = (typeof SCHEMA_NAMES)[number];

/** An Avro schema as JSON, https://avro.apache.org/docs/1.12.0/specification. */
export type AvroSchema = string | readonly AvroSchema[] | { readonly [key: string]: unknown };

const NAMESPACE = "qedit.v1";

/** The schemas as they are now. */
export function avroSchemas(): Readonly<Record<SchemaName, AvroSchema>> {
  return {
    "run.request": record("RunRequest", "An edit that is asked for.", [
      field("envelope", envelope(), "Where the job is on its way."),
      field("images", { type: "array", items: picture() }, "Pictures, in the order in which the prompt counts them."),
      optionalField("mask", "Picture", "White where the edit belongs."),
      field("parameters", parameters(), "As the settings of `qedit run`; null: as the worker is set."),
    ]),
    "run.response": record("RunResponse", "How an edit ended.", [
      field("envelope", envelope(), "As it was asked for; `cursor` is behind the stage that is done."),
      field("status", "string", "completed, failed or cancelled."),
      field("at", time(), "When it ended."),
      field("worker", "string", "Host and process that did it."),
      optionalField("result", result(), "If it is completed."),
      optionalField("error", error(), "If it is not."),
    ]),
    ...stageSchemas(),
    progress: record("Progress", "What a job is doing.", [
      field("job_id", "string"),
      field("at", time()),
      field("worker", "string"),
      field("state", "string", "running, completed, failed, retrying or cancelled."),
      optionalField("stage", "string"),
      optionalField("step", "int", "Steps of the stage that are done."),
      optionalField("steps", "int"),
      optionalField("eta", "double", "Seconds until sampling ends."),
    ]),
    error: error(),
  };
}

type StageSchemaName = `${StageName}.${"request" | "response"}`;

// The same for every stage: a message for the next one is that for the one before, with what was made meanwhile.
function stageSchemas(): Readonly<Record<StageSchemaName, AvroSchema>> {
  const schemas = STAGES.flatMap((stage) => {
    const name = stage.split("-").map((word) => word[0]!.toUpperCase() + word.slice(1));
    return [
      [`${stage}.request`, stageRequest(`${name.join("")}Request`, stage)],
      [`${stage}.response`, stageResponse(`${name.join("")}Response`, stage)],
    ] as const;
  });
  return Object.fromEntries(schemas) as Record<StageSchemaName, AvroSchema>;
}

function stageRequest(name: string, stage: StageName): AvroSchema {
  return record(name, `An edit on its way through the stages, now at ${stage}.`, [
    field("envelope", envelope(), "Where the job is on its way."),
    field("images", { type: "array", items: picture() }, "Pictures, in the order in which the prompt counts them."),
    optionalField("mask", "Picture", "White where the edit belongs."),
    field(
      "parameters",
      parameters(),
      "Settings of the whole edit, as those of `qedit run`; null: as the workers are set.",
    ),
    listField("artifacts", artifact(), "What stages have made so far, or the client has."),
    optionalField(
      "settings",
      "string",
      "JSON: what the first worker took the parameters for; null in a request of a client.",
    ),
    mapField("seconds", "By stage that is done."),
  ]);
}

function stageResponse(name: string, stage: StageName): AvroSchema {
  return record(name, `How an edit ended whose last stage is ${stage}.`, [
    field("envelope", envelope(), "As it was asked for; `cursor` is behind the stage that is done."),
    field("status", "string", "completed, failed or cancelled."),
    field("at", time(), "When it ended."),
    field("worker", "string", "Host and process that did the last of it."),
    optionalField("result", result(), "The picture, if the last stage is decode and it is completed."),
    optionalField("error", error(), "If it is not."),
    listField("artifacts", artifact(), "What the stages have made."),
    mapField("seconds", "By stage that is done."),
  ]);
}

function artifact(): AvroSchema {
  return record("Artifact", "A tensor file between two stages, as the command line writes it.", [
    field("kind", "string", "latents of encode-image, cond of encode-prompt, samples of sample."),
    field("file", "Reference", "The .safetensors file; its record stands beside it with .json behind its name."),
  ]);
}

function listField(name: string, items: AvroSchema, doc: string): object {
  return { ...field(name, { type: "array", items }, doc), default: [] };
}

function mapField(name: string, doc: string): object {
  return { ...field(name, { type: "map", values: "double" }, doc), default: {} };
}

function envelope(): AvroSchema {
  return record("Envelope", "Where a job is on its way.", [
    field("job_id", "string", "Chosen by the client; the key of its messages."),
    field("workflow", { type: "array", items: "string" }, 'Stages in their order, such as ["run"].'),
    field("cursor", "int", "Index of the stage that this request is for."),
    field("attempt", "int", "1 at first."),
    field("created_at", time()),
    optionalField("traceparent", "string", "W3C's trace context."),
    optionalField("reply_to", "string", "Topic for the response, instead of qedit's own."),
  ]);
}

function picture(): AvroSchema {
  return record("Picture", "A picture file: PNG, JPEG, WebP and others.", [
    field("name", "string", "File name, for messages and the recipe."),
    field(
      "data",
      [
        "bytes",
        record("Reference", "A file in the store that client and workers share.", [
          field("uri", "string", "file:// and its path in the store."),
          field("sha256", "string", "64 hexadecimal digits; held against what is read."),
          field("size", "long", "Bytes."),
        ]),
      ],
      "The file itself up to 256 KB, else where it is.",
    ),
  ]);
}

function parameters(): AvroSchema {
  const given = Object.entries(REQUEST_PARAMETERS as Readonly<Record<string, Parameter<unknown>>>).filter(
    // What names files of the worker by paths is refused.
    ([key, parameter]) => key === "model" || key === "lora" || !isPath(parameter),
  );
  return record(
    "Parameters",
    "Settings of an edit.",
    given.map(([key, parameter]) => {
      const { description } = parameterSchema(parameter);
      return { name: jsonName(key), type: ["null", ...typesOf(parameter)], default: null, doc: String(description) };
    }),
  );
}

function result(): AvroSchema {
  return record("Result", "The picture that was made.", [
    field("picture", picture()),
    field("sha256", "string", "Of the picture's file."),
    field("type", "string", "MIME type."),
    field("bytes", "long"),
    field("width", "int"),
    field("height", "int"),
    field("seed", "string", "In decimal: it has up to 64 bits."),
    optionalField("drift", "string", "JSON: zoom and shift against picture 1."),
    field("device", "string"),
    field("seconds", { type: "map", values: "double" }, "By stage."),
    field("recipe", "string", "JSON: how it was made."),
  ]);
}

function error(): AvroSchema {
  return record("Error", "Why a job has no picture.", [
    field("code", "string", "Such as QEDIT_E_IMAGE; `qedit explain CODE` explains it."),
    field("message", "string"),
    optionalField("hint", "string", "What to change."),
    field("retryable", "boolean", "Whether the same request may succeed later."),
  ]);
}

// The Avro types of a parameter's values: a number that may also be written as a text is a number.
function typesOf(parameter: Parameter<unknown>): readonly AvroSchema[] {
  const { kind } = parameter;
  if (kind.isSwitch) return ["boolean"];
  if (kind.isList) return [{ type: "array", items: "string" }];
  const accepted = parameterSchema(parameter);
  // The alternative of the text that is read like a flag comes last.
  const own = kind.fromText && accepted["anyOf"] ? (accepted["anyOf"] as Schema[])[0]! : accepted;
  const types = new Set(alternatives(own).map(avroType));
  return [
    ...(types.has("double") ? ["double"] : types.has("long") ? ["long"] : []),
    ...(types.has("string") ? ["string"] : []),
  ];
}

function alternatives(schema: Schema): readonly Schema[] {
  return ((schema["anyOf"] as Schema[] | undefined) ?? [schema]).flatMap((each) =>
    each["anyOf"] ? alternatives(each) : [each],
  );
}

function avroType({ type }: Schema): "double" | "long" | "string" {
  return type === "number" ? "double" : type === "integer" ? "long" : "string";
}

function time(): AvroSchema {
  return { type: "long", logicalType: "timestamp-millis" };
}

function record(name: string, doc: string, fields: readonly object[]): AvroSchema {
  return { type: "record", name, namespace: NAMESPACE, doc, fields };
}

function field(name: string, type: AvroSchema, doc?: string): object {
  return { name, type, ...(doc !== undefined && { doc }) };
}

function optionalField(name: string, type: AvroSchema, doc?: string): object {
  return { name, type: ["null", type], default: null, ...(doc !== undefined && { doc }) };
}
