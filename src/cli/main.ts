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
    process.exitCode = report(error, args.includes("--debug"));
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
function report(error: unknown, debug: boolean): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.ok;
    // commander prints help by itself when no subcommand was given.
    if (error.code === "commander.help") return EXIT.usage;
    const [message, ...suggestion] = error.message.replace(/^error: /, "").split("\n");
    print([`error: ${message}`, `  hint: ${suggestion.join(" ").replace(/^\(|\)$/g, "") || "qedit --help"}`]);
    return EXIT.usage;
  }
  const known = error instanceof QeditError ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  if (debug || !known) print([error instanceof Error ? (error.stack ?? message) : message]);
  print([`error: ${message}`, ...(known?.hint === undefined ? [] : [`  hint: ${known.hint}`])]);
  return known?.exitCode ?? EXIT.runtime;
}

function print(lines: readonly string[]): void {
  process.stderr.write(`${lines.join("\n")}\n`);
}
