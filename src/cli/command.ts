// The definition of a subcommand: options and help as data, and one function. Its module is loaded when it is called or its help is shown.
import type { ParameterTable, SettingsOf } from "../edit/parameters/parameter.js";
import type { Terminal } from "./render/terminal.js";
import type { GivenSetting } from "./settings/settings.js";

/** What the help of the command above needs to list a subcommand without loading it. */
export interface CommandEntry {
  readonly name: string;
  /** One line for help. */
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** A positional argument in commander's syntax, `<image...>` or `[file]`, and its description. */
export type Positional = readonly [name: string, summary: string];

/** A subcommand: its own options and function, or subcommands of its own, or both. */
export interface Command<Table extends ParameterTable = ParameterTable> {
  /** First line of its own help, where it says more than the summary. */
  readonly description?: string;
  readonly examples: readonly string[];
  readonly positionals?: readonly Positional[];
  readonly options: Table;
  /** Subcommands, as in `qedit models pull`; a command without `perform` is not called by itself. */
  readonly commands?: readonly CommandEntry[];
  /** Does the work; returns the exit code, default EXIT.ok. Throws QeditError. */
  readonly perform?: (call: Call<Table>, terminal: Terminal) => Promise<number | void>;
}

/** One call of a subcommand. */
export interface Call<Table extends ParameterTable> {
  readonly args: readonly string[];
  readonly settings: SettingsOf<Table>;
  /** The source of each given setting; a default has no entry. */
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Returns the command; lets TypeScript infer the types of its settings. */
export function defineCommand<Table extends ParameterTable>(command: Command<Table>): Command {
  return command as unknown as Command;
}
