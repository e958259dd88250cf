// The definition of a parameter. Flags, environment variables, settings keys, schemas and help are all generated from tables of these.
import * as v from "valibot";
import { param, QeditError } from "../../std/errors.js";
import type { Kind } from "./parameter-kinds.js";

/** Headings under which parameters are listed. */
export type ParameterGroup = "Models" | "Prompt" | "Sizes" | "Sampling" | "Output" | "Server" | "Device" | "Terminal";

/**
 * Where a parameter may be set. "edit": everywhere, also in a project's settings file, which may come from someone else. "user": by flags, environment
 * variables and the user's settings file. "call": only by a flag or a request, because its value is for one call.
 */
export type ParameterScope = "edit" | "user" | "call";

/** One parameter; its name is its key in a table. */
export interface Parameter<T> {
  readonly kind: Kind<T extends undefined ? never : T>;
  readonly summary: string;
  readonly group: ParameterGroup;
  readonly scope: ParameterScope;
  /** Default value. */
  readonly initial: T;
  /** Text of the default in help, if it is not a fixed value. */
  readonly initialText?: string;
  /** Whether it must be given. */
  readonly isRequired?: boolean;
  /** For the command line: a one-letter flag, other long flags, and the value's placeholder in help. */
  readonly short?: string;
  readonly aliases?: readonly string[];
  readonly placeholder?: string;
}

/** Parameters by name in camelCase. */
// biome-ignore lint/suspicious/noExplicitAny: T is both input and output, so no narrower type holds parameters of different types
export type ParameterTable = Readonly<Record<string, Parameter<any>>>;

/** The values of a table. */
export type SettingsOf<Table extends ParameterTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Parameter<infer T> ? T : never;
};

type Description<T> = Omit<Parameter<T>, "kind" | "initial" | "scope"> & { readonly scope?: ParameterScope };

/** A parameter that is undefined until it is given. */
export function optional<T>(kind: Kind<T>, description: Description<T | undefined>): Parameter<T | undefined> {
  return { scope: "edit", ...description, kind: kind as Parameter<T | undefined>["kind"], initial: undefined };
}

/** A parameter with a default. */
export function defaulted<T>(kind: Kind<T>, initial: T, description: Description<T>): Parameter<T> {
  return { scope: "edit", ...description, kind: kind as Parameter<T>["kind"], initial };
}

/** `negativePrompt` → `negative_prompt`: the name in JSON. */
export function jsonName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `negativePrompt` → `negative-prompt`: the name in settings files, and behind `--`. */
export function fileName(key: string): string {
  return jsonName(key).replaceAll("_", "-");
}

/** `negativePrompt` → `QEDIT_NEGATIVE_PROMPT`. */
export function environmentName(key: string): string {
  return `QEDIT_${jsonName(key).toUpperCase()}`;
}

/** Reads a parameter's value from JSON. Numbers may be written as texts, switches may not. Throws QEDIT_E_USAGE. */
export function readValue<T>(key: string, { kind }: Parameter<T>, value: unknown): T {
  const given = typeof value === "string" && kind.fromText && !kind.isSwitch ? kind.fromText(value) : value;
  return checked(key, kind, { given, written: value });
}

/** The JSON value that the texts of a form's parts stand for, by the parameter's JSON name. Throws QEDIT_E_USAGE for several texts of what is no list. */
export function jsonOfTexts(name: string, { kind }: Parameter<unknown>, texts: readonly string[]): unknown {
  if (kind.isList) return texts;
  if (kind.isJoined) return texts.join(",");
  if (texts.length > 1)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param(name)}: it is given ${texts.length} times`, {
      hint: "Give it once",
      parameter: name,
    });
  return kind.isSwitch ? kind.fromText!(texts[0]!) : texts[0];
}

/** Reads a parameter's value from the texts of its flags or environment variable. If it is not a list, the last one counts. Throws QEDIT_E_USAGE. */
export function readTexts<T>(key: string, { kind }: Parameter<T>, texts: readonly string[]): T {
  if (kind.isList) return checked(key, kind, { given: texts, written: texts.length === 1 ? texts[0] : texts });
  const written = texts.at(-1)!;
  return checked(key, kind, { given: kind.fromText ? kind.fromText(written) : written, written });
}

function checked<T>(
  key: string,
  kind: Parameter<T>["kind"],
  { given, written: value }: { given: unknown; written: unknown },
): T {
  const result = v.safeParse(kind.schema, given);
  if (result.success) return result.output as T;
  const shown = typeof value === "string" ? `"${value}"` : (JSON.stringify(value) ?? String(value));
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${shown} for ${param(jsonName(key))}: ${wanted(kind, value)} is wanted`,
    {
      hint: "`qedit run --help` explains every parameter",
      parameter: jsonName(key),
    },
  );
}

// Integers beyond 2^53 lose digits in JSON.
function wanted({ wanted: usual, isList }: Pick<Kind<unknown>, "wanted" | "isList">, value: unknown): string {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value))
    return "a text, which loses no digits,";
  return Array.isArray(value) && !isList ? "one value" : usual;
}
