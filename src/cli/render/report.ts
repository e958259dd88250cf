// How an error is told: its line last but for a hint, which is what to type or change next.
import type { CommanderError } from "commander";
import { EXIT, QeditError } from "../../std/errors.js";
import { COMMANDS } from "../commands.js";
import { styleFor } from "./style.js";

/** Prints an error on stderr and gives the exit code. */
export async function report(error: unknown, args: readonly string[]): Promise<number> {
  const { CommanderError } = await import("commander");
  if (error instanceof CommanderError) return reportUsage(error, args);
  const known = error instanceof QeditError ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  // Events on stderr are for a program, and the last of them was the error.
  const isLogged = known !== undefined && eventsOnStderr(args);
  // A failure that nobody foresaw is a bug, and its stack is what a report of it needs.
  if (args.includes("--debug") || !known) print([error instanceof Error ? (error.stack ?? message) : message]);
  if (!isLogged) printError(message, known?.hint, args);
  return known?.exitCode ?? EXIT.runtime;
}

function reportUsage({ exitCode, code, message }: CommanderError, args: readonly string[]): number {
  if (exitCode === 0) return EXIT.ok;
  // Without a subcommand commander prints the help by itself.
  if (code === "commander.help") return EXIT.usage;
  const [reason, suggestion] = message.replace(/^error: /, "").split("\n") as [string, string | undefined];
  const command = COMMANDS.find(({ name }) => args.includes(name));
  const help = `qedit ${command === undefined ? "" : `${command.name} `}--help`;
  printError(`${reason[0]!.toUpperCase()}${reason.slice(1)}`, suggestion?.replace(/^\(|\)$/g, "") ?? help, args);
  return EXIT.usage;
}

function printError(message: string, hint: string | undefined, args: readonly string[]): void {
  const { red, dim } = styleFor(process.stderr, {
    env: process.env,
    color: args.includes("--no-color") ? false : undefined,
  });
  print([`${red("error:")} ${message}`, ...(hint === undefined ? [] : [`  ${dim("hint:")} ${hint}`])]);
}

function eventsOnStderr(args: readonly string[]): boolean {
  return args.some(
    (arg, index) =>
      /^--events=(stderr|-)$/.test(arg) || (arg === "--events" && ["stderr", "-"].includes(args[index + 1] ?? "")),
  );
}

function print(lines: readonly string[]): void {
  process.stderr.write(`${lines.join("\n")}\n`);
}
