// Builds commander's commands. Loads only the module of the subcommand that is called.
import { Command as Commander, CommanderError } from "commander";
import { EXIT } from "../edit/error-table.js";
import type { ParameterTable } from "../edit/parameters/parameter.js";
import { QeditError } from "../std/errors.js";
import type { Command, CommandEntry } from "./command.js";
import { COMMANDS } from "./commands.js";
import type { Io } from "./io.js";

/** The hidden command that completion scripts call, with the typed words after `--`. */
const COMPLETE = "complete";

/** Width of help if the stream is not a terminal; commander's default. */
const HELP_WIDTH = 80;

const EXAMPLE = 'qedit run photo.jpg -p "make it black and white"';
const DOCUMENTATION = "`qedit COMMAND --help` explains a command, `qedit explain CODE` an error.";

/** Runs the command line and returns the exit code. Throws QeditError, and CommanderError for wrong usage. */
export async function program(args: readonly string[], version: string, io: Io): Promise<number> {
  let code: number = EXIT.ok;
  const called =
    (command: Command, name: string, commander: Commander) =>
    async (...given: unknown[]) => {
      refuseOptionsBefore(commander, name);
      const positionals = (command.positionals ?? []).flatMap((_, index) => given[index] ?? []) as string[];
      // Loaded here because help does not need it.
      const { call } = await import("./call.js");
      code = await call(command, { name, args: positionals, parsed: commander.opts() }, io);
    };
  if (args[0] === COMPLETE && args[1] === "--") {
    const { complete } = await import("./complete.js");
    await complete(args.slice(2), io);
    return EXIT.ok;
  }
  const root = quiet(new Commander("qedit"), io)
    .description("Edit pictures with words: Qwen-Image-Edit on your own machine")
    .usage("COMMAND [options]")
    // What stands behind the name of a command belongs to it, also where the command before it has the same option.
    .enablePositionalOptions()
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "explain a command")
    .addHelpCommand(
      new Commander("help").argument("[command]").description("explain a command").helpGroup("This machine:"),
    );
  const named = args.find((arg) => COMMANDS.some(({ name }) => name === arg));
  const tables: ParameterTable[] = [];
  for (const entry of COMMANDS) {
    const isNamed = entry.name === named;
    const commander = isNamed ? await loaded(entry, entry.name, { args, called, io, tables }) : listed(entry);
    root.addCommand(commander.helpGroup(`${entry.group}:`));
  }
  root.addHelpText("before", `Example:\n  ${EXAMPLE}\n`).addHelpText("after", `\n${DOCUMENTATION}`);
  try {
    await root.parseAsync(await withValues(args, tables), { from: "user" });
  } catch (error) {
    return helpStatus(error);
  }
  return code;
}

// Commander has printed help or the version and throws to say so: nothing is left to report. Throws every other error again.
function helpStatus(error: unknown): number {
  if (!(error instanceof CommanderError)) throw error;
  if (error.exitCode === 0) return EXIT.ok;
  // Help took the place of a subcommand that was not given.
  if (error.code === "commander.help") return EXIT.usage;
  throw error;
}

// The values of flags that stand alone, by the options of the commands that are called.
async function withValues(args: readonly string[], tables: readonly ParameterTable[]): Promise<string[]> {
  if (tables.length === 0) return [...args];
  const { withBareFlags } = await import("./settings/options.js");
  return withBareFlags(args, tables);
}

interface Surroundings {
  /** Options of the commands that were loaded; grows. */
  readonly tables: ParameterTable[];
  readonly args: readonly string[];
  readonly called: Called;
  readonly io: Io;
}

type Called = (command: Command, name: string, commander: Commander) => (...given: unknown[]) => Promise<void>;

function listed({ name, summary }: CommandEntry): Commander {
  return new Commander(name).summary(summary).description(summary);
}

// A command, and those of its subcommands whose names stand among the arguments; the others are only listed. `path` is its full name: "models pull".
async function loaded(
  { name, summary, load }: CommandEntry,
  path: string,
  surroundings: Surroundings,
): Promise<Commander> {
  const { args, called, io, tables } = surroundings;
  const command = await load();
  const commander = quiet(new Commander(name), io)
    .summary(summary)
    .description(command.description ?? summary);
  for (const below of command.commands ?? []) {
    const isNamed = args.includes(below.name);
    commander.addCommand(isNamed ? await loaded(below, `${path} ${below.name}`, surroundings) : listed(below));
  }
  for (const positional of command.positionals ?? []) commander.argument(...positional);
  if (command.perform && command.commands) commander.enablePositionalOptions();
  if (command.perform) {
    const { addOptions, outputOptions } = await import("./settings/options.js");
    const table = { ...command.options, ...outputOptions };
    tables.push(table);
    addOptions(commander, table);
    commander.action(called(command, path, commander));
  }
  return commander.addHelpText(
    "before",
    `${["Examples:", ...command.examples.map((example) => `  ${example}`)].join("\n")}\n`,
  );
}

// Options of `serve` have no effect on `serve status`.
function refuseOptionsBefore({ parent }: Commander, name: string): void {
  const stray = parent?.options.find((option) => parent.getOptionValueSource(option.attributeName()) === "cli");
  if (stray === undefined) return;
  throw new QeditError("QEDIT_E_USAGE", `Cannot use ${stray.long} with ${name}: it stands before the subcommand`, {
    hint: `qedit ${name} --help lists its options, which stand behind it`,
  });
}

// Commander's own error output is off: report() shows errors.
function quiet(commander: Commander, { stdout, stderr }: Io): Commander {
  return commander
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      getOutHelpWidth: () => stdout.columns ?? HELP_WIDTH,
      getErrHelpWidth: () => stderr.columns ?? HELP_WIDTH,
      outputError: () => {},
    });
}
