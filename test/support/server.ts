// A real `qedit serve` process on a free port, with folders of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
/** Milliseconds until a server must be ready: its start takes one second. */
const READY_WITHIN = 60_000;

/** How a server is started. */
export interface ServerStart {
  /** Folder for its home, its state and its socket. */
  readonly folder: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A running server. */
export interface TestServer {
  readonly url: string;
  /** Path of its socket. */
  readonly socket: string;
  readonly child: ChildProcess;
  /** What it has logged so far, parsed. */
  readonly log: readonly LogLine[];
  /** Its environment, for commands that look for it. */
  readonly env: Readonly<Record<string, string>>;
  /** Ends it by a signal, and gives its exit code and the milliseconds that this took. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<{ readonly code: number | null; readonly milliseconds: number }>;
}

/** A line of the log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

/** Starts a server with the embedded model on one thread, and waits until it is ready. */
export async function startServer({ folder, args = [], env = {} }: ServerStart): Promise<TestServer> {
  const runtime = join(folder, "run");
  mkdirSync(runtime, { recursive: true });
  const own = { QEDIT_HOME: join(folder, "home"), XDG_RUNTIME_DIR: runtime, ...env };
  const command = ["serve", "--http", "127.0.0.1:0", "--model", "tiny", "--device", "cpu", "--threads", "1", ...args];
  const child = spawn(process.execPath, [BIN, ...command], {
    cwd: folder,
    env: { PATH: process.env["PATH"] ?? "", HOME: folder, ...own },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const log: LogLine[] = [];
  const lines = createInterface({ input: child.stderr! });
  const ready = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server is not ready: ${JSON.stringify(log)}`)), READY_WITHIN);
    lines.on("line", (line) => {
      const record = parsed(line);
      log.push(record);
      if (!record.msg.startsWith("ready")) return;
      clearTimeout(timer);
      resolve();
    });
    child.once("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`the server ended with ${code}: ${log.map(({ msg }) => msg).join("\n")}`));
    });
  });
  await ready;
  const url = String(log.find(({ http }) => http !== undefined)!["http"]);
  return {
    ...{ url, child, log, env: own },
    socket: join(runtime, "qedit.sock"),
    async stop(signal = "SIGTERM") {
      const start = performance.now();
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit");
        child.kill(signal);
        await ended;
      }
      return { code: child.exitCode, milliseconds: performance.now() - start };
    },
  };
}

function parsed(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { msg: line };
  }
}
