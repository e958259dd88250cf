// Converts parameters to commander's options and back, and defines those that every command has.

import { type Command, Option as CommanderOption } from "commander";
import {
  defaulted,
  fileName,
  optional,
  type Parameter,
  type ParameterGroup,
  type ParameterTable,
} from "../../edit/parameters/parameter.js";
import { text, toggle } from "../../edit/parameters/parameter-kinds.js";
import { spelled } from "../../std/errors.js";
import { asFlag } from "../io.js";

/** The groups in the order of help: most used first. */
const GROUPS: readonly ParameterGroup[] = [
  "Prompt",
  "Output",
  "Sampling",
  "Sizes",
  "Server",
  "Models",
  "Device",
  "Terminal",
];

/** Options that every command takes. */
export const outputOptions = {
  json: defaulted(toggle, false, { summary: "print the result as JSON", group: "Terminal", scope: "user" }),
  events: optional(text, {
    summary: "write progress as NDJSON to a file, which may be an earlier log, or to stderr (`--events stderr`)",
    group: "Terminal",
    scope: "user",
    placeholder: "<file>",
  }),
  quiet: defaulted(toggle, false, {
    summary: "no progress and no notes",
    group: "Terminal",
    scope: "user",
    short: "q",
  }),
  verbose: defaulted(toggle, false, {
    summary: "say more: files, sessions, times",
    group: "Terminal",
    scope: "user",
    short: "v",
  }),
  debug: defaulted(toggle, false, {
    summary: "say everything, and show the stack of an error",
    group: "Terminal",
    scope: "user",
  }),
  noColor: defaulted(toggle, false, { summary: "no colours", group: "Terminal", scope: "user" }),
};

/** A parameter's flags; the first long one is its name, the others are aliases. */
interface Flags {
  readonly short: string | undefined;
  readonly longs: readonly [string, ...string[]];
  /** ` <text>`; empty for a switch. */
  readonly argument: string;
}

/** `prompt` → `-p`, `--prompt`, ` <text>`. */
export function flagsOf(
  key: string,
  { short, aliases = [], kind, placeholder = "<value>" }: Parameter<unknown>,
): Flags {
  return {
    short: short === undefined ? undefined : `-${short}`,
    longs: [`--${fileName(key)}`, ...aliases.map((alias) => `--${alias}`)],
    argument: kind.isSwitch ? "" : ` ${placeholder}`,
  };
}

/** A parameter's summary in help, with the allowed words. */
export function summaryOf({ summary, kind }: Parameter<unknown>): string {
  return spelled(kind.choices ? `${summary} (${kind.choices.join(", ")})` : summary, asFlag);
}

/** Adds parameters to a command as options. Commander only collects their texts; they are parsed later. */
export function addOptions(command: Command, table: ParameterTable): void {
  const parameters = Object.entries(table).sort(([, a], [, b]) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
  for (const [key, parameter] of parameters) {
    const { short, longs, argument } = flagsOf(key, parameter);
    longs.forEach((long, index) => {
      const isAlias = index > 0;
      const flags = `${short && !isAlias ? `${short}, ` : ""}${long}${argument}`;
      const about = isAlias ? `same as ${longs[0]}` : described(parameter);
      const added = new CommanderOption(flags, about).helpGroup(`${parameter.group}:`).hideHelp(isAlias);
      if (argument !== "") added.argParser((written, before: readonly string[] = []) => [...before, written]);
      command.addOption(added);
    });
  }
}

/** The text of a flag that stands without a value. */
const ALONE = "on";

/**
 * The words of a command line with the value of each flag written out that may stand alone: what follows it is its value only where it can be one, else a
 * picture or another flag. `tables` are the options of the commands that are called.
 */
export function withBareFlags(words: readonly string[], tables: readonly ParameterTable[]): string[] {
  const flags = new Map(
    tables.flatMap(Object.entries<Parameter<unknown>>).flatMap(([key, parameter]) => {
      const { short, longs, argument } = flagsOf(key, parameter);
      return [...longs, ...(short ? [short] : [])].map((name) => [name, { argument, ...parameter.kind }] as const);
    }),
  );
  const written: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index]!;
    if (word === "--") return [...written, ...words.slice(index)];
    const { argument = "", isValue } = flags.get(word) ?? {};
    const next = words[index + 1];
    if (isValue && (next === undefined || !isValue(next))) written.push(`${word}=${ALONE}`);
    else written.push(word);
    // The value of a flag is none itself, whatever it looks like.
    if (argument !== "" && next !== undefined && (!isValue || isValue(next))) written.push(words[++index]!);
  }
  return written;
}

/** What commander collected for a parameter: its texts, or true for a switch; undefined if it was not given. */
export function parsedValue(
  key: string,
  parameter: Parameter<unknown>,
  parsed: Readonly<Record<string, unknown>>,
): readonly string[] | true | undefined {
  const found: string[] = [];
  for (const long of flagsOf(key, parameter).longs) {
    // Commander stores `--no-color` as color: false, and color: true if it was not given.
    const isOff = long.startsWith("--no-") && parsed[camelCase(`--${long.slice(5)}`)] === false;
    const value = parsed[camelCase(long)];
    if (isOff || value === true) return true;
    if (Array.isArray(value)) found.push(...(value as string[]));
  }
  return found.length === 0 ? undefined : found;
}

function described(parameter: Parameter<unknown>): string {
  const { initial, initialText } = parameter;
  const isShown =
    (typeof initial === "string" && initial !== "") || typeof initial === "number" || typeof initial === "bigint";
  const shown = initialText ?? (isShown ? String(initial) : undefined);
  return shown === undefined ? summaryOf(parameter) : `${summaryOf(parameter)} (default: ${spelled(shown, asFlag)})`;
}

function camelCase(long: string): string {
  return long.slice(2).replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
