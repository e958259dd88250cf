// The processor time of a process by its threads, from Linux's /proc while it runs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

/** What threads do. */
export type ThreadKind = "main" | "engine" | "pool" | "v8" | "files";

/** Seconds of the processor by kind of thread: JavaScript of the command; sessions; what computes beside them; what compiles and collects; files and PNG. */
export type ThreadTimes = Readonly<Record<ThreadKind, number>>;

/** A measured process. */
export interface MeasuredProcess {
  readonly threads: ThreadTimes;
  /** Seconds of the processor by the process's own count: threads are seen only every few milliseconds, so their sum is a little less. */
  readonly seconds: number;
  /** Largest resident set, bytes. */
  readonly resident: number;
}

/** What a thread of JavaScript says of itself, see thread-ids.cjs. */
export interface ThreadReport {
  readonly id: string;
  readonly isMainThread: boolean;
  readonly running: readonly string[];
}

/** A thread of the system: its name and nanoseconds of the processor. */
export interface SeenThread {
  readonly name: string;
  readonly nanoseconds: number;
}

const LOOK_EVERY = 5;
const PRELOADED = ["thread-ids.cjs", "../figures/exit-usage.cjs"].map((name) =>
  fileURLToPath(new URL(name, import.meta.url)),
);

/** Runs Node with these arguments to its end; throws if it fails. */
export async function measureProcess(args: readonly string[]): Promise<MeasuredProcess> {
  const child = spawn(process.execPath, [...PRELOADED.flatMap((path) => ["--require", path]), ...args], {
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
  });
  const seen = new Map<string, SeenThread>();
  const timer = setInterval(() => look(child.pid!, seen), LOOK_EVERY);
  const [stderr, usage, reports, [code]] = await Promise.all([
    text(child.stderr!),
    text(child.stdio[3] as NodeJS.ReadableStream),
    text(child.stdio[4] as NodeJS.ReadableStream),
    once(child, "close"),
  ]);
  clearInterval(timer);
  if (code !== 0) throw new Error(`node ${args.join(" ")} ended with ${code}: ${stderr}`);
  const { seconds, bytes } = JSON.parse(usage) as { seconds: number; bytes: number };
  const threads = reports
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ThreadReport);
  return { threads: timesByKind(seen, threads), seconds, resident: bytes };
}

// A thread that has ended keeps what was seen last.
function look(pid: number, seen: Map<string, SeenThread>): void {
  const folder = `/proc/${pid}/task`;
  try {
    for (const id of readdirSync(folder)) {
      const [nanoseconds] = readFileSync(`${folder}/${id}/schedstat`, "utf8").split(" ");
      seen.set(id, { name: readFileSync(`${folder}/${id}/comm`, "utf8").trim(), nanoseconds: Number(nanoseconds) });
    }
  } catch {
    // The process or a thread ended meanwhile.
  }
}

/** Sums up threads. Those that ran before the first line of JavaScript are V8's; those that the engine's thread started are ONNX Runtime's. */
export function timesByKind(seen: ReadonlyMap<string, SeenThread>, reports: readonly ThreadReport[]): ThreadTimes {
  const main = reports.find(({ isMainThread }) => isMainThread)!;
  const engine = reports.find(({ isMainThread }) => !isMainThread);
  const kindOf = (id: string, name: string): ThreadKind => {
    if (id === main.id) return "main";
    if (id === engine?.id) return "engine";
    if (main.running.includes(id)) return "v8";
    // libuv's start before the engine, for the first file; libvips gives its own a name.
    return name.startsWith("libvips") || engine === undefined || Number(id) < Number(engine.id) ? "files" : "pool";
  };
  const times = { main: 0, engine: 0, pool: 0, v8: 0, files: 0 };
  for (const [id, { name, nanoseconds }] of seen) times[kindOf(id, name)] += nanoseconds / 1e9;
  return times;
}
