// What tests of many edits share: small edits, events that were logged, and result lines.
import { readFileSync, writeFileSync } from "node:fs";
import { type Ended, models, QUICK, qedit } from "./qedit.js";

/** The smallest edit that goes through every network. */
export const TINY = [...models(), ...QUICK, "--size", "48x32", "--steps", "1", "--cfg", "1"];

/** A result line of batch or each. */
export interface Result {
  readonly job: number;
  readonly line: number;
  readonly status: string;
  readonly reason?: string;
  readonly output: string | null;
  readonly error?: { readonly code: string; readonly message: string; readonly hint?: string };
}

/** Lines of JSON. */
export function jsonLines<T>(text: string): T[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as T);
}

/** How often each network was opened, by a log of events. */
export function loads(log: string): Record<string, number> {
  const opened = jsonLines<{ event: string; action?: string; network: string }>(readFileSync(log, "utf8")).filter(
    ({ event, action }) => event === "session" && action === "opened",
  );
  const counts: Record<string, number> = {};
  for (const { network } of opened) counts[network] = (counts[network] ?? 0) + 1;
  return counts;
}

/** Each network once. */
export const ONCE = { "vae-encoder": 1, "vision-tower": 1, "language-model": 1, transformer: 1, "vae-decoder": 1 };

/** Writes jobs, one a line. */
export function writeJobs(path: string, jobs: readonly object[]): void {
  writeFileSync(path, jobs.map((job) => `${JSON.stringify(job)}\n`).join(""));
}

/** Runs qedit and expects it to end well. */
export async function done(args: readonly string[], surroundings: Parameters<typeof qedit>[1]): Promise<Ended> {
  const ended = await qedit(args, surroundings);
  if (ended.code !== 0) throw new Error(`qedit ${args.join(" ")} ended with ${ended.code}: ${ended.stderr}`);
  return ended;
}
