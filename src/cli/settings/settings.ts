// Resolves the value and source of every parameter. Precedence: flag, environment, project file, user file, default.
import {
  environmentName,
  fileName,
  type Parameter,
  type ParameterTable,
  readTexts,
  readValue,
  type SettingsOf,
} from "../../edit/parameters/parameter.js";
import type { Given } from "../../edit/resolve/given.js";
import { QeditError } from "../../std/errors.js";
import { flagsOf, parsedValue } from "./options.js";
import type { SettingsFile } from "./settings-files.js";

/** Sources of values, strongest first; a job is a line of a batch. */
const LAYERS = ["job", "flag", "environment", "project file", "user file"] as const;

/** A layer of settings. */
type Layer = (typeof LAYERS)[number];

/** A given value and its layer. */
export interface GivenSetting extends Given {
  readonly layer: Layer;
}

/** A value of a layer; flags and jobs are meant for this call. */
export function givenBy(layer: Layer, name: string, value: unknown): GivenSetting {
  return { value, name, layer, strength: -LAYERS.indexOf(layer), isOfCall: layer === "job" || layer === "flag" };
}

/** Sources of settings. */
export interface Sources {
  /** Full name of the command, for its section in files: `run`, `models pull`. */
  readonly command: string;
  /** What commander collected. */
  readonly parsed: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The nearest first. */
  readonly files: readonly SettingsFile[];
}

/** Given values by parameter name, each from the strongest layer that has it. Throws QEDIT_E_USAGE for an invalid value. */
export function givenSettings(table: ParameterTable, sources: Sources): Map<string, GivenSetting> {
  const given = new Map<string, GivenSetting>();
  for (const [key, parameter] of Object.entries(table)) {
    const found =
      fromFlag(key, parameter, sources) ??
      (parameter.scope === "call"
        ? undefined
        : (fromEnvironment(key, parameter, sources) ?? fromFiles(key, parameter, sources)));
    if (found !== undefined) given.set(key, found);
  }
  return given;
}

/** Settings with defaults filled in. Throws QEDIT_E_USAGE if a required parameter is missing. */
export function completeSettings<Table extends ParameterTable>(
  table: Table,
  given: ReadonlyMap<string, Given>,
): SettingsOf<Table> {
  const settings = Object.entries(table).map(([key, parameter]) => {
    const found = given.get(key);
    if (found !== undefined) return [key, found.value];
    if (parameter.isRequired) {
      const { longs, argument } = flagsOf(key, parameter);
      throw new QeditError("QEDIT_E_USAGE", `No ${longs[0]} was given`, {
        hint: `Add ${longs[0]}${argument}: ${parameter.summary}`,
      });
    }
    return [key, parameter.initial];
  });
  return Object.fromEntries(settings) as SettingsOf<Table>;
}

/** Whether a settings file of a layer may set a parameter. A project's file may come from someone else: it may set only parameters of scope "edit". */
export function mayBeSetBy(layer: SettingsFile["layer"], { scope }: Parameter<unknown>): boolean {
  return scope === "edit" || (scope === "user" && layer === "user file");
}

function fromFlag(key: string, parameter: Parameter<unknown>, { parsed }: Sources): GivenSetting | undefined {
  const found = parsedValue(key, parameter, parsed);
  if (found === undefined) return undefined;
  const value = found === true ? true : readTexts(key, parameter, found);
  return givenBy("flag", flagsOf(key, parameter).longs[0], value);
}

function fromEnvironment(key: string, parameter: Parameter<unknown>, { env }: Sources): GivenSetting | undefined {
  const name = environmentName(key);
  const written = env[name];
  if (written === undefined || written === "") return undefined;
  const texts = parameter.kind.isList ? written.split(",") : [written];
  return givenBy(
    "environment",
    name,
    setBy(name, () => readTexts(key, parameter, texts)),
  );
}

function fromFiles(key: string, parameter: Parameter<unknown>, { command, files }: Sources): GivenSetting | undefined {
  for (const { path, layer, values } of files) {
    if (!mayBeSetBy(layer, parameter)) continue;
    const section = values[command];
    const own = isObject(section) ? valueIn(section, key) : undefined;
    const value = own ?? valueIn(values, key);
    if (value === undefined || value === null) continue;
    const read = setBy(`"${fileName(key)}" in ${path}`, () => readValue(key, parameter, value));
    return givenBy(layer, path, read);
  }
  return undefined;
}

// Accepts both spellings: `cfg-norm` and `cfg_norm`.
function valueIn(values: Readonly<Record<string, unknown>>, key: string): unknown {
  return values[fileName(key)] ?? values[fileName(key).replaceAll("-", "_")];
}

function setBy<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    throw new QeditError(error.code, `${error.marked.message} (set by ${name})`, {
      hint: "`qedit config --explain` shows where every setting comes from",
      cause: error,
    });
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
