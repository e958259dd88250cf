// What an interface hands to the core: pictures as bytes with names, and the values of parameters. It is resolved to an edit against the
// values that are set where the edit is made.
import { findLora } from "../../catalog/local/find.js";
import { parseLora } from "../../stages/networks/loras.js";
import { closest } from "../../std/closest.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import {
  defaulted,
  jsonName,
  jsonOfTexts,
  type Parameter,
  readValue,
  type SettingsOf,
} from "../parameters/parameter.js";
import { toggle } from "../parameters/parameter-kinds.js";
import { EDIT_PARAMETERS, MODEL_PARAMETERS, PICTURE_PARAMETERS, PRESET_PARAMETERS } from "../parameters/table.js";
import type { Given, GivenValues } from "../resolve/given.js";
import type { ModelLibrary } from "../resolve/model-library.js";
import type { Unresolved } from "../resolve/resolve-settings.js";

/** A picture file: its bytes, and its name for messages and the recipe. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** An edit as it is asked for. */
export interface EditRequest {
  readonly pictures: readonly NamedBytes[];
  /** White where the edit belongs. */
  readonly mask?: NamedBytes | undefined;
  /** Values by JSON name; null: not set, whatever is set where the edit is made. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** The parameters of a request; the mask is a picture of it. */
export const REQUEST_PARAMETERS = {
  ...withoutMask(),
  ...PRESET_PARAMETERS,
  ...MODEL_PARAMETERS,
  ...PICTURE_PARAMETERS,
  force: defaulted(toggle, false, {
    summary: "allow settings that do not go together",
    group: "Output",
    scope: "call",
  }),
  resolved: defaulted(toggle, false, {
    summary: "presets and the model's numbers are applied already: no parameter is filled in or refused",
    group: "Output",
    scope: "call",
  }),
};

/** Their values; `mask` is always undefined. */
export type RequestSettings = SettingsOf<typeof REQUEST_PARAMETERS> & { readonly mask: undefined };

/** Values that hold where an edit is made, unless the request has others: of settings files and the environment. */
export interface BaseSettings {
  readonly settings: RequestSettings;
  readonly given: GivenValues;
}

/** Where a request came from. */
export interface RequestOrigin {
  readonly base: BaseSettings;
  /** Whether it may name files of this machine by paths: it came from this machine's user. */
  readonly hasPaths: boolean;
  /** Whether LoRAs are elsewhere, and stay names; default: they are found in the folders of this machine. */
  readonly hasLorasElsewhere?: boolean;
  /** Which stages run elsewhere, where LoRAs are found by their names. */
  readonly library?: Pick<ModelLibrary, "elsewhere"> | undefined;
  readonly emit: Emit;
}

/** Stronger than any file and variable. */
const STRENGTH = 1;

const BY_NAME: ReadonlyMap<string, readonly [key: string, parameter: Parameter<unknown>]> = new Map(
  Object.entries(REQUEST_PARAMETERS).map(([key, parameter]) => [jsonName(key), [key, parameter] as const]),
);

/** Whether a request may have a parameter of this JSON name. */
export function isParameter(name: string): boolean {
  return BY_NAME.has(name);
}

/** Whether a parameter names a file or a folder. */
export function isPath({ placeholder = "" }: Parameter<unknown>): boolean {
  return /^<(file|folder)/.test(placeholder);
}

/**
 * Reads the values of a request over those of its origin. Throws QEDIT_E_USAGE for an unknown name, an invalid value, and a path from elsewhere;
 * QEDIT_E_MODEL_MISSING for a LoRA that is in no folder.
 */
export async function readRequest(
  { parameters }: Pick<EditRequest, "parameters">,
  { base, hasPaths, library, hasLorasElsewhere = library?.elsewhere.has("sample") === true, emit }: RequestOrigin,
): Promise<Unresolved<RequestSettings>> {
  const { settings, given } = parameters["resolved"] === true ? folders(base) : baseOf(base);
  for (const [name, value] of Object.entries(parameters)) {
    const [key, parameter] = BY_NAME.get(name) ?? unknown(name);
    given.delete(key);
    settings[key] = parameter.initial;
    if (value === null) continue;
    if (!hasPaths) refusePath(name, parameter, value);
    settings[key] = readValue(key, parameter, value);
    given.set(key, { value: settings[key], name: param(name), strength: STRENGTH, isOfCall: true });
  }
  const read = settings as unknown as RequestSettings;
  // Those of the origin are its own user's.
  if (!hasPaths && !hasLorasElsewhere && typeof parameters["lora"] !== "undefined" && parameters["lora"] !== null)
    settings["lora"] = await Promise.all(read.lora.map((written) => inFolders(written, read)));
  return { settings: read, given, force: read.force, isResolved: read.resolved, emit };
}

/** The value that a JSON value of a parameter is read as, `"2"` as 2; one that cannot be read, and one of an unknown name, as it came. */
export function typedValue(name: string, value: unknown): unknown {
  const [key, parameter] = BY_NAME.get(name) ?? [];
  if (key === undefined || parameter === undefined || value === null) return value;
  try {
    return readValue(key, parameter, value);
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    // It is refused where the request is read.
    return value;
  }
}

/** The value of a parameter from the texts of a form's parts, for `parameters` of a request. Throws QEDIT_E_USAGE for an unknown name, and several values for one. */
export function parameterOfText(name: string, texts: readonly string[]): unknown {
  const [, parameter] = BY_NAME.get(name) ?? unknown(name);
  return jsonOfTexts(name, parameter, texts);
}

function baseOf({ settings, given }: BaseSettings): { settings: Record<string, unknown>; given: Map<string, Given> } {
  return { settings: { ...settings }, given: new Map(given) };
}

// Where everything is resolved elsewhere, nothing that is set here counts but where models are.
function folders({ settings, given }: BaseSettings): ReturnType<typeof baseOf> {
  const own = Object.entries(REQUEST_PARAMETERS).map(([key, { initial }]) => [key, initial] as const);
  const found = given.get("modelsDir");
  return {
    settings: { ...settings, ...Object.fromEntries(own), modelsDir: settings.modelsDir },
    given: new Map(found === undefined ? [] : [["modelsDir", found]]),
  };
}

function withoutMask(): Omit<typeof EDIT_PARAMETERS, "mask"> {
  const { mask: _, ...rest } = EDIT_PARAMETERS;
  return rest;
}

function unknown(name: string): never {
  const near = closest(name.toLowerCase(), [...BY_NAME.keys()]);
  throw new QeditError("QEDIT_E_USAGE", `"${name.slice(0, 100)}" is no parameter of an edit`, {
    hint: near === undefined ? "/openapi.json lists the parameters" : `Did you mean ${param(near)}?`,
    parameter: name.slice(0, 100),
  });
}

// Models and LoRAs are named; other parameters that are paths would read this machine's files.
function refusePath(name: string, parameter: Parameter<unknown>, value: unknown): void {
  const isName = name === "model" || name === "lora";
  if (!isName && !isPath(parameter)) return;
  // What is no text is refused for that.
  const texts = [value].flat().filter((each) => typeof each === "string");
  if (isName && texts.every((text) => !/[/\\\0]|^\.+$/.test(text))) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${param(name)} here: it would name a file of the server by its path`,
    {
      hint: isName ? "Name a model or a LoRA of the server's folders, without a path" : "Leave it out",
      parameter: name,
    },
  );
}

// The LoRA by its path in a folder of models; one of the catalogue keeps its name.
async function inFolders(written: string, { model, modelsDir: modelsDirs }: RequestSettings): Promise<string> {
  const { path: name, strength } = parseLora(written);
  const found = await findLora(name, { model, modelsDirs, isInFolders: true });
  return `${found}:${strength}`;
}
