// Folders of the system's temporary one with what tests fetch from registries; later runs use them again.
import { existsSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Milliseconds before the second and the third try. */
const PAUSES = [3000, 10_000];
/** Of what a failed program printed. */
const LAST_LINES = 10;

/** Something could not be fetched, at the third try either. The message has the last lines of the program that failed. */
export class FetchFailure extends Error {}

const folders = new Map<string, Promise<string>>();

/**
 * A folder filled once for each `name`, which says all that is in it. Each process that finds none fills a folder of its own, and the first one that is done gives it the name:
 * a link, since environments of Python cannot be moved. `fill` is tried three times, in an empty folder each. Throws a FetchFailure.
 */
export function fetchedFolder(name: string, fill: (folder: string) => Promise<unknown>): Promise<string> {
  const known = folders.get(name);
  if (known) return known;
  const filled = filledFolder(linkOf(name), fill);
  folders.set(name, filled);
  return filled;
}

/** Whether a folder was filled already. */
export function wasFetched(name: string): boolean {
  return existsSync(linkOf(name));
}

function linkOf(name: string): string {
  return join(tmpdir(), `qedit-fetched-${name}`);
}

async function filledFolder(link: string, fill: (folder: string) => Promise<unknown>): Promise<string> {
  if (existsSync(link)) return link;
  await patiently(async () => {
    const folder = await mkdtemp(`${link}-`);
    try {
      await fill(folder);
      // A link may have outlived its folder.
      if (!existsSync(link)) await rm(link, { force: true });
      await symlink(folder, link);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      // Another process was faster.
      if (!existsSync(link)) throw error;
    }
  });
  return link;
}

/** Does something with a registry, three times at most. A program that is not there is not tried again. Throws a FetchFailure. */
export async function patiently<T>(fetched: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await fetched();
    } catch (error) {
      const pause = isAbsentProgram(error) ? undefined : PAUSES[attempt];
      if (pause === undefined) throw new FetchFailure(reason(error), { cause: error });
      await delay(pause);
    }
  }
}

/** One line of why something could not be fetched, for a test that says why it was not run; any other error is thrown again. */
export function missing(error: unknown): { readonly missing: string } {
  if (!(error instanceof FetchFailure)) throw error;
  const lines = error.message.split("\n");
  return { missing: (lines.find((line) => /error/i.test(line)) ?? lines.at(-1)!).slice(0, 200) };
}

function isAbsentProgram(error: unknown): boolean {
  return (error as { code?: unknown }).code === "ENOENT";
}

// What execFile throws has what the program printed.
function reason(error: unknown): string {
  const { message, stderr, stdout, killed } = error as Error & {
    readonly stderr?: string;
    readonly stdout?: string;
    readonly killed?: boolean;
  };
  const [command] = message.split("\n");
  const printed = (stderr?.trim() || stdout?.trim() || "").split("\n").slice(-LAST_LINES);
  return [killed ? `${command} (stopped: it took too long)` : command, ...printed].filter(Boolean).join("\n");
}
