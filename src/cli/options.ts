// From options as data to commander's, and from what commander parsed to settings.
import { Option as CommanderOption, type Command } from "commander";
import { parseDevice } from "../engine/providers.js";
import { QeditError } from "../errors.js";
import { flag, number, text, type Option, type OptionTable, type SettingsOf } from "../stages/option.js";

/** Options that every subcommand takes. */
export const commonOptions = {
  model: text({ flags: "--model <name>", summary: "model of models.json whose files to use", group: "Models", initialText: "qwen-image-edit-2509" }),
  device: {
    ...text({ flags: "--device <name>", summary: "where to compute: auto, cpu, cuda or cuda:N", group: "Device", initialText: "auto" }),
    parse(value: string) {
      // A wrong name is told before model files are looked for.
      if (value !== "auto") parseDevice(value, 0);
      return value;
    },
  },
  threads: number({ flags: "--threads <count>", summary: "threads on the CPU", group: "Device", initialText: "all cores" }, { minimum: 1, maximum: 1024, whole: true, initial: undefined }),
  json: flag({ flags: "--json", summary: "print the result as one JSON object", group: "Output" }),
  quiet: flag({ flags: "-q, --quiet", summary: "no progress and no notes", group: "Output" }),
  debug: flag({ flags: "--debug", summary: "show the stack of an error", group: "Output" }),
};

/** Settings that every subcommand takes. */
export type CommonSettings = SettingsOf<typeof commonOptions>;

/** Adds a table of options to a command; errors of their values are QeditErrors. */
export function addOptions(command: Command, table: OptionTable): void {
  for (const option of Object.values(table)) {
    const { short, longs, argument } = flagsOf(option);
    longs.forEach((long, index) => {
      const isAlias = index > 0;
      const flags = `${short && !isAlias ? `${short}, ` : ""}${long}${argument}`;
      const added = new CommanderOption(flags, isAlias ? `same as ${longs[0]}` : describe(option)).helpGroup(`${option.group}:`).hideHelp(isAlias);
      const { parse, initial } = option;
      if (parse) added.argParser((value, before) => parse(value, before ?? initial));
      command.addOption(added);
    });
  }
}

/** The settings of a table, from what commander parsed; what was not given has its default. Throws QEDIT_E_USAGE for a mandatory option. */
export function settingsOf<Table extends OptionTable>(table: Table, parsed: Readonly<Record<string, unknown>>): SettingsOf<Table> {
  const settings = Object.entries(table).map(([name, option]) => {
    const { longs, argument } = flagsOf(option);
    const given = longs.map((long) => parsed[camelCase(long)]).find((value) => value !== undefined);
    // Not left to commander, which would tell it before an option that was mistyped.
    if (option.mandatory && given === undefined) {
      throw new QeditError("QEDIT_E_USAGE", `No ${longs[0]} was given`, { hint: `Add ${longs[0]}${argument}: ${option.summary}` });
    }
    return [name, given ?? option.initial];
  });
  return Object.fromEntries(settings) as SettingsOf<Table>;
}

// `-p, --prompt <text>` → its parts; a second long flag is another spelling of the first.
function flagsOf({ flags }: Option<unknown>): { short: string | undefined; longs: readonly string[]; argument: string } {
  return { short: /^-\w/.exec(flags)?.[0], longs: flags.match(/--[\w-]+/g) ?? [], argument: /\s<[^>]+>$/.exec(flags)?.[0] ?? "" };
}

function describe({ summary, initial, initialText }: Option<unknown>): string {
  const isShown = (typeof initial === "string" && initial !== "") || typeof initial === "number" || typeof initial === "bigint";
  const shown = initialText ?? (isShown ? String(initial) : undefined);
  return shown === undefined ? summary : `${summary} (default: ${shown})`;
}

function camelCase(long: string): string {
  return long.slice(2).replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
