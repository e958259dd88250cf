// The command line: the named subcommand is loaded and called, every error is shown in one place, and the exit status is given.
import { qeditVersion } from "../std/version.js";
import { type Io, type Output, processIo } from "./io.js";

/** Exit status where there is no working folder, or Node.js is too old; the error table is not loaded for it. */
const EXIT_UNABLE = 1;

/**
 * Does what the arguments ask for, and gives the exit status. While it runs, the process's environment and working folder are those of `io`: one
 * call at a time in a process.
 */
export async function main(args: readonly string[], given?: Io): Promise<number> {
  const io = given ?? ownIo();
  if (io === undefined) return EXIT_UNABLE;
  let unwritten: NodeJS.ErrnoException | undefined;
  const failed = (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough, as in `qedit … | head`, is no error.
    if (error.code !== "EPIPE") unwritten = error;
  };
  io.stdout.on("error", failed);
  // Without a reader of stderr only messages are lost.
  io.stderr.on("error", () => {});
  const leave = enter(io);
  try {
    const code = await reported(() => called(args, io), args, io);
    return await reported(
      async () => {
        await flushed(io.stdout);
        if (!unwritten) return code;
        const { ioFailure } = await import("../std/files.js");
        throw ioFailure("write", "stdout", unwritten);
      },
      args,
      io,
    );
  } catch (error) {
    // A Node.js that lacks what a module imports cannot load the modules that show errors, nor `doctor`.
    const { isNodeNewEnough, oldestNode } = await import("../std/node-version.js");
    if (isNodeNewEnough()) throw error;
    const found = `Node.js ${process.versions.node}: ${oldestNode()} or newer is wanted`;
    io.stderr.write(`error: Cannot run on ${found}\n  hint: Install a newer Node.js: https://nodejs.org\n`);
    return EXIT_UNABLE;
  } finally {
    leave();
  }
}

// The exit status of some work, or of its error, which is shown.
async function reported(work: () => Promise<number>, args: readonly string[], io: Io): Promise<number> {
  try {
    return await work();
  } catch (error) {
    const { report } = await import("./render/report.js");
    return report(error, args, io);
  }
}

// The process's own streams and folder; undefined, after a message, when its working folder was removed.
function ownIo(): Io | undefined {
  try {
    return processIo();
  } catch {
    process.stderr.write("error: Cannot run here: the working folder does not exist any more\n  hint: cd ~\n");
    return undefined;
  }
}

async function called(args: readonly string[], io: Io): Promise<number> {
  if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
    io.stdout.write(`${qeditVersion()}\n`);
    return 0;
  }
  const { program } = await import("./program.js");
  return program(args, qeditVersion(), io);
}

// What was written has arrived, or has failed.
function flushed(stream: Output): Promise<void> {
  return new Promise((resolve) => stream.write("", () => resolve()));
}

// What lies below the doors reads the process's own.
function enter({ env, cwd }: Io): () => void {
  const before = { env: { ...process.env }, cwd: process.cwd() };
  if (env !== process.env) replaceEnvironment(env);
  if (cwd !== before.cwd) process.chdir(cwd);
  return () => {
    if (env !== process.env) replaceEnvironment(before.env);
    if (cwd !== before.cwd) process.chdir(before.cwd);
  };
}

// Variable by variable: another object as process.env would not reach os.homedir and native code.
function replaceEnvironment(env: Io["env"]): void {
  for (const name of Object.keys(process.env)) if (env[name] === undefined) delete process.env[name];
  for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value;
}
