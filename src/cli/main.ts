// The command line: the named subcommand is loaded and called, every error is told in one place, and the exit code is set.
import { readFileSync } from "node:fs";
import { EXIT } from "../errors.js";
import { report } from "./report.js";

/** Parses the arguments of the process, runs what they ask for, and sets the exit code. */
export async function main(args: readonly string[]): Promise<void> {
  // A reader that has seen enough, as in `qedit … | head`, is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
    process.stdout.write(`${version()}\n`);
    return;
  }
  try {
    const { program } = await import("./program.js");
    process.exitCode = await program(args, version());
  } catch (error) {
    process.exitCode = await report(error, args);
  }
  // A signal handler or an idle thread must not keep the process.
  if (process.exitCode === undefined) process.exitCode = EXIT.ok;
}

function version(): string {
  return (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
}
