// How fast networks ran on this machine: one line of JSON a session, kept in qedit's state folder, for the next plan.
import { appendFile, mkdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeFileAtomically } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

/** One session: how long it took to open, and to run. */
export interface SessionTiming {
  /** When it closed, ISO 8601. */
  readonly at: string;
  /** The graph's name: `the transformer`. */
  readonly network: string;
  /** `cpu`, `cuda:0`. */
  readonly device: string;
  /** Threads on the CPU; 0 is all. */
  readonly threads: number;
  readonly optimization: string;
  /** Bytes of weights as stored. */
  readonly weightBytes: number;
  readonly openSeconds: number;
  readonly runs: number;
  /** Of all runs together. */
  readonly flops: number;
  readonly seconds: number;
}

/** Lines that are kept when the file is cut; at some 250 bytes each, far more than a median needs. */
const KEPT = 500;
/** The file is cut when it is longer. */
const MOST_BYTES = 400_000;

/** Path of the file, whether it exists or not. */
function timingsFile(): string {
  return join(folderFor("state"), "timings.jsonl");
}

/** The timings that can be read, oldest first; damaged lines are left out, and a file that is not there is empty. */
export async function readTimings(path = timingsFile()): Promise<SessionTiming[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => parseTiming(line) ?? []);
}

/** Adds timings. A line is appended in one write, so that several processes may do so at once. Throws what the file system says. */
export async function recordTimings(timings: readonly SessionTiming[], path = timingsFile()): Promise<void> {
  if (timings.length === 0) return;
  await mkdir(dirname(path), { recursive: true });
  await appendFile(path, timings.map((timing) => `${JSON.stringify(timing)}\n`).join(""));
  if ((await stat(path)).size <= MOST_BYTES) return;
  const kept = (await readTimings(path)).slice(-KEPT);
  // Another process may append in between: a timing lost is no harm, a torn file would be.
  await writeFileAtomically(path, Buffer.from(kept.map((timing) => `${JSON.stringify(timing)}\n`).join("")));
}

function parseTiming(line: string): SessionTiming | undefined {
  try {
    const timing = JSON.parse(line) as SessionTiming;
    const numbers = [timing.threads, timing.weightBytes, timing.openSeconds, timing.runs, timing.flops, timing.seconds];
    const isSound =
      numbers.every((number) => typeof number === "number" && Number.isFinite(number) && number >= 0) &&
      timing.runs > 0 &&
      timing.seconds > 0 &&
      timing.flops > 0;
    return isSound && [timing.network, timing.device].every((text) => typeof text === "string") ? timing : undefined;
  } catch {
    // Cut off by a crash, or not ours.
    return undefined;
  }
}

/** What decides how long a session takes. */
export interface SessionLoad
  extends Pick<SessionTiming, "network" | "device" | "threads" | "optimization" | "weightBytes" | "flops" | "runs"> {}

/** Seconds that a session should take, and from how many earlier ones that is known. */
export interface SessionEstimate {
  readonly open: number;
  readonly run: number;
  readonly basis: number;
}

/** A run with this many times the operations of another, or fewer by as much, tells nothing of its speed. */
const COMPARABLE = 16;

/** Seconds by the median speed of earlier sessions of the same network on the same device; undefined when there is none to compare with. */
export function estimateSession(load: SessionLoad, timings: readonly SessionTiming[]): SessionEstimate | undefined {
  const isNear = (a: number, b: number) => a / b < COMPARABLE && b / a < COMPARABLE;
  const alike = timings.filter(
    (timing) =>
      (["network", "device", "threads", "optimization"] as const).every((key) => timing[key] === load[key]) &&
      isNear(timing.flops / timing.runs, load.flops / load.runs) &&
      isNear(timing.weightBytes, load.weightBytes),
  );
  if (alike.length === 0) return undefined;
  return {
    open: median(alike.map(({ openSeconds, weightBytes }) => openSeconds / weightBytes)) * load.weightBytes,
    run: load.flops / median(alike.map(({ flops, seconds }) => flops / seconds)),
    basis: alike.length,
  };
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
