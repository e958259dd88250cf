// From options as data to commander's, and from what commander parsed to settings; and the options that many commands share.
import { type Command, Option as CommanderOption } from "commander";
import { parseDevice } from "../../engine/providers.js";
import {
  bytes,
  flag,
  number,
  type Option,
  type OptionGroup,
  type OptionTable,
  repeated,
  text,
} from "../../stages/option.js";
import { vram } from "../../stages/shared-options.js";

/** The groups in the order help shows them: what is asked for most comes first. */
const GROUPS: readonly OptionGroup[] = ["Prompt", "Output", "Sampling", "Sizes", "Models", "Device", "Terminal"];

/** Options that every command takes. */
export const outputOptions = {
  json: flag({ flags: "--json", summary: "print the result as JSON", group: "Terminal" }),
  events: text({
    flags: "--events <file>",
    summary: "write progress as NDJSON to a file, or to stderr (`--events stderr`)",
    group: "Terminal",
  }),
  quiet: flag({ flags: "-q, --quiet", summary: "no progress and no notes", group: "Terminal" }),
  verbose: flag({ flags: "-v, --verbose", summary: "say more: files, sessions, times", group: "Terminal" }),
  debug: flag({ flags: "--debug", summary: "say everything, and show the stack of an error", group: "Terminal" }),
  noColor: flag({ flags: "--no-color", summary: "no colours", group: "Terminal" }),
};

/** Options of every command that computes. */
export const computeOptions = {
  model: text({
    flags: "--model <name>",
    summary: "model of models.json whose files to use",
    group: "Models",
    initialText: "qwen-image-edit-2509",
  }),
  modelsDir: repeated({
    flags: "--models-dir <folder>",
    summary: "folder to search for model files first; repeatable",
    group: "Models",
  }),
  device: {
    ...text({
      flags: "--device <name>",
      summary: "where to compute: auto, cpu, cuda or cuda:N",
      group: "Device",
      initialText: "auto",
    }),
    parse(value: string) {
      // A wrong name is told before model files are looked for.
      if (value !== "auto") parseDevice(value, 0);
      return value;
    },
  },
  threads: number(
    { flags: "--threads <count>", summary: "threads on the CPU", group: "Device", initialText: "all cores" },
    { minimum: 1, maximum: 1024, whole: true, initial: undefined },
  ),
  vram,
};

/** Options of every command whose results may be taken from earlier runs. */
export const cacheOptions = {
  noCache: flag({
    flags: "--no-cache",
    summary: "compute everything, and keep no results for later runs",
    group: "Output",
  }),
  cacheLimit: bytes(
    {
      flags: "--cache-limit <size>",
      summary: "most bytes of kept results, such as 500M or 2G; the longest unused go first",
      group: "Output",
      initialText: "4G",
    },
    4 * 1024 ** 3,
  ),
};

/** Options of every command that makes many edits. */
export const manyOptions = {
  memory: bytes(
    {
      flags: "--memory <size>",
      summary: "memory that weights may take at once, such as 12G; more networks stay open in more",
      group: "Device",
      initialText: "two thirds of what is free",
    },
    undefined,
  ),
};

/** Where a result goes, and leave to replace what is there. */
export const writeOptions = {
  output: text({
    flags: "-o, --output <file>",
    summary: "where the result goes; - is stdout",
    group: "Output",
    isPerCall: true,
  }),
  force: flag({
    flags: "-f, --force",
    summary: "replace files, and allow settings that do not go together",
    group: "Output",
    isPerCall: true,
  }),
};

/** Adds a table of options to a command; errors of their values are QeditErrors. */
export function addOptions(command: Command, table: OptionTable): void {
  const options = Object.values(table).sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
  for (const option of options) {
    const { short, longs, argument } = flagsOf(option);
    longs.forEach((long, index) => {
      const isAlias = index > 0;
      const flags = `${short && !isAlias ? `${short}, ` : ""}${long}${argument}`;
      const added = new CommanderOption(flags, isAlias ? `same as ${longs[0]}` : describe(option))
        .helpGroup(`${option.group}:`)
        .hideHelp(isAlias);
      const { parse, initial } = option;
      if (parse) added.argParser((value, before) => parse(value, before ?? initial));
      command.addOption(added);
    });
  }
}

/** What commander parsed for an option; undefined when it was not given. */
export function parsedValue(option: Option<unknown>, parsed: Readonly<Record<string, unknown>>): unknown {
  for (const long of flagsOf(option).longs) {
    // Commander keeps `--no-color` as color: false, and color: true when it was not given.
    const value = long.startsWith("--no-")
      ? parsed[camelCase(`--${long.slice(5)}`)] === false || undefined
      : parsed[camelCase(long)];
    if (value !== undefined) return value;
  }
  return undefined;
}

/** `-p, --prompt <text>` → its parts; a second long flag is another spelling of the first. */
export function flagsOf({ flags }: Pick<Option<unknown>, "flags">): {
  short: string | undefined;
  longs: readonly string[];
  argument: string;
} {
  return {
    short: /^-\w/.exec(flags)?.[0],
    longs: flags.match(/--[\w-]+/g) ?? [],
    argument: /\s<[^>]+>$/.exec(flags)?.[0] ?? "",
  };
}

function describe({ summary, initial, initialText }: Option<unknown>): string {
  const isShown =
    (typeof initial === "string" && initial !== "") || typeof initial === "number" || typeof initial === "bigint";
  const shown = initialText ?? (isShown ? String(initial) : undefined);
  return shown === undefined ? summary : `${summary} (default: ${shown})`;
}

function camelCase(long: string): string {
  return long.slice(2).replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
