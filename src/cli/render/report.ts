// Prints an error: its message, then a hint what to do next.
import type { CommanderError } from "commander";
import { ERRORS, EXIT } from "../../edit/error-table.js";
import { failureOf, QeditError } from "../../std/errors.js";
import { COMMANDS } from "../commands.js";
import type { Io } from "../io.js";
import { failureInFlags } from "./in-flags.js";
import { printable, printableLine } from "./shown.js";
import { styleFor } from "./style.js";
import { printJsonError } from "./terminal.js";

/** Prints an error on stderr and returns the exit status. */
export async function report(error: unknown, args: readonly string[], io: Io): Promise<number> {
  const { CommanderError } = await import("commander");
  if (error instanceof CommanderError) return reportUsage(error, args, io);
  const { code, message, hint } = failureInFlags(failureOf(error));
  const isKnown = error instanceof QeditError;
  // With events on stderr, the error was the last event.
  const isLogged = isKnown && eventsOnStderr(args);
  // An unknown error is a bug: print its stack for the bug report.
  if (args.includes("--debug") || !isKnown)
    io.stderr.write(`${printable(error instanceof Error ? (error.stack ?? message) : message)}\n`);
  if (!isLogged) printError({ message, hint }, args, io);
  return ERRORS[code].exit;
}

function reportUsage({ message }: CommanderError, args: readonly string[], io: Io): number {
  const [reason, suggestion] = message.replace(/^error: /, "").split("\n") as [string, string | undefined];
  const command = COMMANDS.find(({ name }) => args.includes(name));
  const help = `qedit ${command === undefined ? "" : `${command.name} `}--help`;
  const hint = suggestion?.replace(/^\(|\)$/g, "") ?? help;
  const sentence = `${reason[0]!.toUpperCase()}${reason.slice(1)}`;
  if (args.includes("--json")) printJsonError(new QeditError("QEDIT_E_USAGE", sentence, { hint }), io);
  printError({ message: sentence, hint }, args, io);
  return EXIT.usage;
}

interface Shown {
  readonly message: string;
  readonly hint: string | undefined;
}

function printError({ message, hint }: Shown, args: readonly string[], io: Io): void {
  const style = styleFor(io.stderr, { env: io.env, color: args.includes("--no-color") ? false : undefined });
  const lines = [
    `${style.red("error:")} ${message}`,
    ...(hint === undefined ? [] : [`  ${style.dim("hint:")} ${hint}`]),
  ];
  io.stderr.write(`${lines.map((line) => printableLine(line, style)).join("\n")}\n`);
}

function eventsOnStderr(args: readonly string[]): boolean {
  return args.some(
    (arg, index) =>
      /^--events=(stderr|-)$/.test(arg) || (arg === "--events" && ["stderr", "-"].includes(args[index + 1] ?? "")),
  );
}
