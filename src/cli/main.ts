// The command line: subcommands made from data, one line for every error, and the exit codes.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { EXIT, QeditError } from "../errors.js";
import { COMMANDS, type CommandSpec } from "./commands.js";
import { execute } from "./execute.js";
import { addOptions, commonOptions } from "./options.js";

/** Parses the arguments of the process, runs what they ask for, and sets the exit code. */
export async function main(args: readonly string[]): Promise<void> {
  // A reader that has seen enough, as in `qedit … | head`, is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  try {
    await program().parseAsync(args as string[], { from: "user" });
  } catch (error) {
    process.exitCode = report(error, args);
  }
}

function program(): Command {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  const root = new Command("qedit")
    .description("Edit pictures with words: Qwen-Image-Edit on your own machine")
    .version(version)
    .showSuggestionAfterError()
    .exitOverride()
    // Errors are told once, at the end, by report().
    .configureOutput({ outputError: () => {} });
  for (const spec of COMMANDS) root.addCommand(subcommand(spec));
  root.addHelpText("after", `\nExample:\n  ${COMMANDS[0]!.examples[0]}\n`);
  return root;
}

function subcommand(spec: CommandSpec): Command {
  const command = new Command(spec.name).description(spec.summary).exitOverride().showSuggestionAfterError().configureOutput({ outputError: () => {} });
  if (spec.positional) command.argument(...spec.positional);
  addOptions(command, { ...spec.options, ...commonOptions });
  command.addHelpText("before", `${["Examples:", ...spec.examples.map((example) => `  ${example}`)].join("\n")}\n`);
  return command.action((...given: unknown[]) => {
    const positional = spec.positional ? [given[0] ?? []].flat() : [];
    return execute(spec, positional as string[], command.opts());
  });
}

// Prints an error as its last line and hint, and gives the exit code.
function report(error: unknown, args: readonly string[]): number {
  if (error instanceof CommanderError) return reportUsage(error, args);
  const known = error instanceof QeditError ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  // A failure that nobody foresaw is a bug, and its stack is what a report of it needs.
  if (args.includes("--debug") || !known) print([error instanceof Error ? (error.stack ?? message) : message]);
  print([`error: ${message}`, ...(known?.hint === undefined ? [] : [`  hint: ${known.hint}`])]);
  return known?.exitCode ?? EXIT.runtime;
}

function reportUsage({ exitCode, code, message }: CommanderError, args: readonly string[]): number {
  if (exitCode === 0) return EXIT.ok;
  // Without a subcommand commander prints the help by itself.
  if (code === "commander.help") return EXIT.usage;
  const [reason, suggestion] = message.replace(/^error: /, "").split("\n") as [string, string | undefined];
  const command = COMMANDS.find(({ name }) => args.includes(name));
  const help = `qedit ${command === undefined ? "" : `${command.name} `}--help`;
  print([`error: ${reason[0]!.toUpperCase()}${reason.slice(1)}`, `  hint: ${suggestion?.replace(/^\(|\)$/g, "") ?? help}`]);
  return EXIT.usage;
}

function print(lines: readonly string[]): void {
  process.stderr.write(`${lines.join("\n")}\n`);
}
