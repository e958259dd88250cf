// A child process that holds one open network. It reads commands on stdin and answers with lines of JSON. Two of them can take
// turns, and each has its own memory peak.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";

/** Answers to each command. */
export interface Answers {
  /** Seconds to build the model from its file, and to open the session; PyTorch reports neither. */
  readonly open: {
    readonly graph: number;
    readonly session: number;
    readonly nodes: number;
    readonly modelBytes: number;
  };
  /** Wall time, and processor time of all threads: on a busy machine the latter is more reliable. */
  readonly run: { readonly seconds: number; readonly processor: number };
  /** The largest resident set so far. */
  readonly peak: { readonly bytes: number };
}

/** A running peer; dispose ends it. */
export interface Peer extends AsyncDisposable {
  /** Throws if the process ended without an answer. */
  ask<Question extends keyof Answers>(question: Question): Promise<Answers[Question]>;
}

/** Starts a peer; its stderr is inherited. */
export function startPeer(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Peer {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...environment } });
  const lines = createInterface(child.stdout);
  const ended = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      reject(new Error(`${command} ${args.join(" ")} ended with ${code ?? signal}`)),
    );
  });
  ended.catch(() => {});
  return {
    async ask(question) {
      child.stdin.write(`${question}\n`);
      return JSON.parse(await Promise.race([nextLine(lines), ended]));
    },
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function nextLine(lines: Interface): Promise<string> {
  const [line] = (await once(lines, "line")) as [string];
  return line;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin?.end();
  await once(child, "exit");
}
