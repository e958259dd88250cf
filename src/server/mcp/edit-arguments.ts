// The arguments of tools that speak of an edit: their JSON Schema, from the table of parameters, and the edit that they ask for.

import { basename } from "node:path";
import { jsonName } from "../../edit/parameters/parameter.js";
import { parameterSchema, type Schema } from "../../edit/parameters/parameter-schema.js";
import { type EditRequest, type NamedBytes, REQUEST_PARAMETERS } from "../../edit/request/edit-request.js";
import { readBytes } from "../../image/io/read.js";
import { fromBase64 } from "../../std/base64.js";
import { closest } from "../../std/closest.js";
import { param, QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";
import { fileName } from "../http/request-body.js";

/** Parameters of an edit by their names in JSON; a replaced file would be no edit's business. */
const PARAMETERS: Readonly<Record<string, Schema>> = Object.fromEntries(
  Object.entries(REQUEST_PARAMETERS).map(([key, parameter]) => [jsonName(key), parameterSchema(parameter)]),
);

/** On the command line a dash has another meaning. */
const PROMPT: Schema = { ...PARAMETERS["prompt"], description: "what to do with the pictures, in plain words" };

const PICTURE: Schema = {
  anyOf: [
    { type: "string", minLength: 1, description: "path of a picture file, relative to the server's working folder" },
    {
      type: "object",
      properties: {
        data: { type: "string", contentEncoding: "base64", description: "the file in base64" },
        name: { type: "string", description: "its file name" },
      },
      required: ["data"],
      additionalProperties: false,
    },
  ],
};

const PICTURES: Readonly<Record<string, Schema>> = {
  images: {
    type: "array",
    items: PICTURE,
    minItems: 1,
    description: "pictures, in the order the prompt counts them: paths, or files in base64",
  },
  mask: { ...PICTURE, description: "picture that is white where the edit belongs; with paste_back or crop_mask" },
};

/** The schema of the arguments: an edit's, and others of the tool. */
export function editArguments(own: Readonly<Record<string, Schema>> = {}): {
  readonly type: "object";
  readonly properties: Record<string, object>;
  readonly required: string[];
  readonly additionalProperties: false;
} {
  const { images, mask } = PICTURES;
  return {
    type: "object",
    properties: { images: images!, ...own, mask: mask!, ...PARAMETERS, prompt: PROMPT },
    required: ["prompt"],
    additionalProperties: false,
  };
}

/** What the arguments of a call ask for. */
export interface ReadArguments {
  readonly request: EditRequest;
  /** Path of picture 1; undefined if its file was sent. */
  readonly firstPath: string | undefined;
  /** Where the result goes; undefined: beside picture 1. */
  readonly output: string | undefined;
}

/** Reads arguments and the pictures that they name. Throws QEDIT_E_USAGE, QEDIT_E_IMAGE. */
export async function readArguments(
  args: Readonly<Record<string, unknown>>,
  { hasOutput }: { readonly hasOutput: boolean },
): Promise<ReadArguments> {
  const { images, mask, output, ...parameters } = args;
  const names = [...Object.keys(PICTURES), ...(hasOutput ? ["output"] : []), ...Object.keys(PARAMETERS)];
  refuseUnknownArguments(args, names);
  if (images !== undefined && !Array.isArray(images))
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("images")}: a list of pictures is wanted`, {
      hint: 'Name files, as in "images": ["photo.jpg"]',
      parameter: "images",
    });
  if (output !== undefined && (typeof output !== "string" || output === ""))
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("output")}: a path is wanted`, { parameter: "output" });
  const pictures = await Promise.all(
    (images ?? []).map((image: unknown, index) => pictureOf(image, `images[${index}]`)),
  );
  const [first] = images ?? [];
  return {
    request: {
      pictures,
      mask: mask === undefined || mask === null ? undefined : await pictureOf(mask, "mask"),
      parameters,
    },
    firstPath: typeof first === "string" ? first : undefined,
    output,
  };
}

/** Throws QEDIT_E_USAGE for an argument that a tool does not have; `names` are those it has. */
export function refuseUnknownArguments(args: Readonly<Record<string, unknown>>, names: readonly string[]): void {
  for (const name of Object.keys(args)) if (!names.includes(name)) throw unknownArgument(name, names);
}

async function pictureOf(given: unknown, argument: string): Promise<NamedBytes> {
  if (typeof given === "string") {
    if (given !== "") return { name: given, bytes: await readBytes(given, given, { hasPipes: false }) };
  } else if (isObject(given) && typeof given["data"] === "string") {
    const { data, name = "image", ...rest } = given;
    if (typeof name === "string" && Object.keys(rest).length === 0)
      return { name: fileName(basename(name)), bytes: fromBase64(data as string, argument) };
  }
  throw new QeditError("QEDIT_E_USAGE", `Cannot use "${argument}": a path is wanted, or a file in base64`, {
    hint: `Give "photo.jpg", or {"name": "photo.jpg", "data": "…"}`,
    parameter: argument,
  });
}

function unknownArgument(name: string, names: readonly string[]): QeditError {
  const near = closest(name.toLowerCase(), names);
  return new QeditError("QEDIT_E_USAGE", `"${fileName(name)}" is no argument of this tool`, {
    hint: near === undefined ? "The schema of the tool lists its arguments" : `Did you mean ${param(near)}?`,
    parameter: name,
  });
}
