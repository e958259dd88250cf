// The command line: the named subcommand is loaded and called, every error is told in one place, and the exit code is set.
import { qeditVersion } from "../std/version.js";

/** Parses the arguments of the process, runs what they ask for, and sets the exit code. */
export async function main(args: readonly string[]): Promise<void> {
  let unwritten: NodeJS.ErrnoException | undefined;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough, as in `qedit … | head`, is no error.
    if (error.code !== "EPIPE") unwritten = error;
  });
  if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
    process.stdout.write(`${qeditVersion()}\n`);
    return;
  }
  try {
    const { program } = await import("./program.js");
    process.exitCode = await program(args, qeditVersion());
    if (unwritten) {
      const { ioFailure } = await import("../std/files.js");
      throw ioFailure("write", "stdout", unwritten);
    }
  } catch (error) {
    const { report } = await import("./render/report.js");
    process.exitCode = await report(error, args);
  }
}
