// The file of timings: how long sessions took on this machine, one line of JSON each, in qedit's state folder, for later plans.
import { appendFile, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { SessionTiming } from "../../edit/plan/timings.js";
import { makeFolders, PRIVATE, writeFileAtomically } from "../../std/files.js";
import { folderFor } from "../../std/own-folders.js";

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
  await makeFolders(dirname(path), { isPrivate: true });
  await appendFile(path, timings.map((timing) => `${JSON.stringify(timing)}\n`).join(""), { mode: PRIVATE.file });
  if ((await stat(path)).size <= MAX_BYTES) return;
  const kept = (await readTimings(path)).slice(-MAX_KEPT);
  // Another process may append in between. Losing a timing does no harm; a half-written file would.
  await writeFileAtomically(path, Buffer.from(kept.map((timing) => `${JSON.stringify(timing)}\n`).join("")), {
    isPrivate: true,
  });
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
