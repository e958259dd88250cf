// Timings of sessions on this machine, one line of JSON each, in qedit's state folder; plans estimate seconds from them.
import { appendFile, mkdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeFileAtomically } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

/** How long one session took to open and to run. */
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
  /** Total of all runs. */
  readonly flops: number;
  readonly seconds: number;
}

/** Lines that are kept when the file is truncated; about 250 bytes each, and far more than a median needs. */
const MAX_KEPT = 500;
/** The file is truncated when it is larger. */
const MAX_BYTES = 400_000;

/** Path of the file, whether it exists or not. */
function timingsFile(): string {
  return join(folderFor("state"), "timings.jsonl");
}

/** Reads timings, oldest first. Skips damaged lines; empty if there is no file. */
export async function readTimings(path = timingsFile()): Promise<SessionTiming[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => parseTiming(line) ?? []);
}

/** Appends timings, all in one write, so that several processes can do so at once. Throws errors of the file system. */
export async function recordTimings(timings: readonly SessionTiming[], path = timingsFile()): Promise<void> {
  if (timings.length === 0) return;
  await mkdir(dirname(path), { recursive: true });
  await appendFile(path, timings.map((timing) => `${JSON.stringify(timing)}\n`).join(""));
  if ((await stat(path)).size <= MAX_BYTES) return;
  const kept = (await readTimings(path)).slice(-MAX_KEPT);
  // Another process may append in between. Losing a timing does no harm; a half-written file would.
  await writeFileAtomically(path, Buffer.from(kept.map((timing) => `${JSON.stringify(timing)}\n`).join("")));
}

function parseTiming(line: string): SessionTiming | undefined {
  try {
    const timing = JSON.parse(line) as SessionTiming;
    const numbers = [timing.threads, timing.weightBytes, timing.openSeconds, timing.runs, timing.flops, timing.seconds];
    const isValid =
      numbers.every((number) => typeof number === "number" && Number.isFinite(number) && number >= 0) &&
      timing.runs > 0 &&
      timing.seconds > 0 &&
      timing.flops > 0;
    return isValid && [timing.network, timing.device].every((text) => typeof text === "string") ? timing : undefined;
  } catch {
    // Cut off by a crash, or not written by qedit.
    return undefined;
  }
}

/** What determines how long a session takes. */
export interface SessionLoad
  extends Pick<SessionTiming, "network" | "device" | "threads" | "optimization" | "weightBytes" | "flops" | "runs"> {}

/** Estimated seconds of a session; `basis` is the number of earlier sessions it is estimated from. */
export interface SessionEstimate {
  readonly open: number;
  readonly run: number;
  readonly basis: number;
}

/** Sessions are comparable if their sizes and operations per run differ by less than this factor. */
const COMPARABLE = 16;

/** Estimates seconds by the median speed of comparable sessions of the same network on the same device; undefined if there are none. */
export function estimateSession(load: SessionLoad, timings: readonly SessionTiming[]): SessionEstimate | undefined {
  const isNear = (a: number, b: number) => a / b < COMPARABLE && b / a < COMPARABLE;
  const comparable = timings.filter(
    (timing) =>
      (["network", "device", "threads", "optimization"] as const).every((key) => timing[key] === load[key]) &&
      isNear(timing.flops / timing.runs, load.flops / load.runs) &&
      isNear(timing.weightBytes, load.weightBytes),
  );
  if (comparable.length === 0) return undefined;
  return {
    open: median(comparable.map(({ openSeconds, weightBytes }) => openSeconds / weightBytes)) * load.weightBytes,
    run: load.flops / median(comparable.map(({ flops, seconds }) => flops / seconds)),
    basis: comparable.length,
  };
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
