// The value of every option: flags over environment over project file over user file over defaults, and where each came from.

import type { Option, OptionTable, SettingsOf } from "../../stages/option.js";
import { QeditError } from "../../std/errors.js";
import { flagsOf, parsedValue } from "./options.js";
import type { ConfigFile } from "./settings-files.js";

/** Where a value may come from, the strongest first; a job is a line of a batch. */
export const LAYERS = ["job", "flag", "environment", "project file", "user file"] as const;

/** A layer of settings. */
export type Layer = (typeof LAYERS)[number];

/** A value that was given, by which layer, and under what name there: `"steps"`, `--steps`, `QEDIT_STEPS`, or a path. */
export interface Given {
  readonly value: unknown;
  readonly layer: Layer;
  readonly name: string;
}

/** What settings are resolved from. */
export interface Sources {
  /** Of the command, for its section in files: `run`, `models pull`. */
  readonly command: string;
  /** What commander parsed. */
  readonly parsed: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The nearest first. */
  readonly files: readonly ConfigFile[];
}

/** The given values by the name of their setting, each from the strongest layer that has it. Throws QEDIT_E_USAGE for a value that cannot be used. */
export function givenSettings(table: OptionTable, sources: Sources): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [name, option] of Object.entries(table)) {
    const found =
      fromFlag(option, sources) ??
      (isPerCall(option) ? undefined : (fromEnvironment(option, sources) ?? fromFiles(option, sources)));
    if (found !== undefined) given.set(name, found);
  }
  return given;
}

/** Settings with defaults filled in. Throws QEDIT_E_USAGE for a mandatory option that is missing. */
export function completeSettings<Table extends OptionTable>(
  table: Table,
  given: ReadonlyMap<string, Given>,
): SettingsOf<Table> {
  const settings = Object.entries(table).map(([name, option]) => {
    const found = given.get(name);
    if (found !== undefined) return [name, found.value];
    // Not left to commander, which would tell it before an option that was mistyped.
    if (option.mandatory) {
      const { longs, argument } = flagsOf(option);
      throw new QeditError("QEDIT_E_USAGE", `No ${longs[0]} was given`, {
        hint: `Add ${longs[0]}${argument}: ${option.summary}`,
      });
    }
    return [name, option.initial];
  });
  return Object.fromEntries(settings) as SettingsOf<Table>;
}

/** The name of an option in files: `--cfg-norm <strength>` → `cfg-norm`. */
export function fileKey(option: Pick<Option<unknown>, "flags">): string {
  return flagsOf(option).longs[0]!.slice(2);
}

/** The name of an option in the environment: `--cfg-norm <strength>` → `QEDIT_CFG_NORM`. */
export function environmentKey(option: Pick<Option<unknown>, "flags">): string {
  return `QEDIT_${fileKey(option).toUpperCase().replaceAll("-", "_")}`;
}

/** Claims that only a flag may set the option: it speaks of one call. */
export function isPerCall({ isPerCall: only, mandatory }: Option<unknown>): boolean {
  return only === true || mandatory === true;
}

/**
 * Whether a settings file that was found in a folder may set the option. Such a file may have come with an archive or a repository, so it
 * speaks of edits only: never of a path that is written, of what is kept, or of what is shown.
 */
export function isForProjects(option: Option<unknown>): boolean {
  const isOfUser = option.group === "Output" || option.group === "Terminal";
  return !isPerCall(option) && (!isOfUser || option.isOfEdit === true);
}

function fromFlag(option: Option<unknown>, { parsed }: Sources): Given | undefined {
  const value = parsedValue(option, parsed);
  return value === undefined ? undefined : { value, layer: "flag", name: flagsOf(option).longs[0]! };
}

function fromEnvironment(option: Option<unknown>, { env }: Sources): Given | undefined {
  const name = environmentKey(option);
  const text = env[name];
  if (text === undefined || text === "") return undefined;
  const texts = Array.isArray(option.initial) ? text.split(",") : [text];
  return { value: parseTexts(option, texts, name), layer: "environment", name };
}

function fromFiles(option: Option<unknown>, { command, files }: Sources): Given | undefined {
  const key = fileKey(option);
  for (const { path, layer, values } of files) {
    if (layer === "project file" && !isForProjects(option)) continue;
    const section = values[command];
    const value =
      (typeof section === "object" && section !== null ? (section as Record<string, unknown>)[key] : undefined) ??
      values[key];
    if (value === undefined || value === null) continue;
    const texts = (Array.isArray(value) ? value : [value]).map(String);
    return { value: parseTexts(option, texts, `"${key}" in ${path}`), layer, name: path };
  }
  return undefined;
}

function parseTexts({ parse, initial, flags }: Option<unknown>, texts: readonly string[], name: string): unknown {
  try {
    return parse ? texts.reduce<unknown>((before, text) => parse(text, before), initial) : switchOf(texts[0]!, flags);
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    throw new QeditError(error.code, `${error.message} (set by ${name})`, {
      hint: "`qedit config --explain` shows where every setting comes from",
      cause: error,
    });
  }
}

function switchOf(text: string, flags: string): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use "${text}" for ${flags}: true or false is wanted`);
}
