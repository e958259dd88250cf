// What a parameter is: one entry of a table, from which every door takes its flags, variables, keys and documents.
import * as v from "valibot";
import { param, QeditError } from "../../std/errors.js";
import type { Kind } from "./parameter-kinds.js";

/** Headings under which parameters are listed. */
export type ParameterGroup = "Models" | "Prompt" | "Sizes" | "Sampling" | "Output" | "Device" | "Terminal";

/**
 * Who may set a parameter. "edit": everybody, also a settings file that is found in a folder, which may have come from elsewhere. "user": flags, the
 * environment and the user's own settings file. "call": a flag or a request alone, for it speaks of one call.
 */
export type ParameterScope = "edit" | "user" | "call";

/** One parameter; its name is its key in a table. */
export interface Parameter<T> {
  readonly kind: Kind<T extends undefined ? never : T>;
  readonly summary: string;
  readonly group: ParameterGroup;
  readonly scope: ParameterScope;
  /** Value when it is not given. */
  readonly initial: T;
  /** What help shows for a default that is not one value. */
  readonly initialText?: string;
  /** Whether nothing can be done without it. */
  readonly isRequired?: boolean;
  /** For the command line: a one-letter flag, other long flags, and what stands for the value in help. */
  readonly short?: string;
  readonly aliases?: readonly string[];
  readonly placeholder?: string;
}

/** Parameters by name in camelCase, as settings have them in TypeScript. */
// biome-ignore lint/suspicious/noExplicitAny: T stands on both sides, so that nothing narrower holds parameters of different types
export type ParameterTable = Readonly<Record<string, Parameter<any>>>;

/** The values of a table. */
export type SettingsOf<Table extends ParameterTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Parameter<infer T> ? T : never;
};

type Described<T> = Omit<Parameter<T>, "kind" | "initial" | "scope"> & { readonly scope?: ParameterScope };

/** A parameter that is undefined until it is given. */
export function optional<T>(kind: Kind<T>, described: Described<T | undefined>): Parameter<T | undefined> {
  return { scope: "edit", ...described, kind: kind as Parameter<T | undefined>["kind"], initial: undefined };
}

/** A parameter with a default. */
export function defaulted<T>(kind: Kind<T>, initial: T, described: Described<T>): Parameter<T> {
  return { scope: "edit", ...described, kind: kind as Parameter<T>["kind"], initial };
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

/** The value of a parameter from JSON, where numbers may also be texts, and switches may not. Throws QEDIT_E_USAGE. */
export function readValue<T>(key: string, { kind }: Parameter<T>, value: unknown): T {
  const given = typeof value === "string" && kind.fromText && !kind.isSwitch ? kind.fromText(value) : value;
  return checked(key, kind, { given, written: value });
}

/** The value of a parameter from the texts of its flags, or of a variable; only lists take several. Throws QEDIT_E_USAGE. */
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

/** Whole numbers beyond 2^53 lose digits in JSON. */
function wanted({ wanted: usual, isList }: Pick<Kind<unknown>, "wanted" | "isList">, value: unknown): string {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value))
    return "a text, which loses no digits,";
  return Array.isArray(value) && !isList ? "one value" : usual;
}
