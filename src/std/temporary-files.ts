// Temporary files beside their targets. Names cannot be guessed and say which process wrote them, so that what a killed process left can be removed.
import { readFileSync, unlinkSync } from "node:fs";
import { lstat, readdir, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

const NAME = /^\.qedit-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.tmp$/;
/** A file of an unknown process is abandoned after so many milliseconds: a write takes seconds. */
const ABANDONED_AFTER = 24 * 3600_000;

const open = new Set<string>();

// Slow to load, and every command has this module, to remove files when it is stopped; few make one.
const crypto = () => process.getBuiltinModule("node:crypto");

/** The first part of names that only processes of this machine give: `a1b2c3d4-4711`. */
export function processName(): string {
  return `${crypto().createHash("sha256").update(hostname()).digest("hex").slice(0, 8)}-${process.pid}`;
}

/** A new path for a temporary file in a folder, to be opened with `wx`. Call `forgetTemporaryFile` when it is gone. */
export function temporaryPath(folder: string): string {
  const path = join(folder, `.qedit-${processName()}-${crypto().randomBytes(8).toString("hex")}.tmp`);
  open.add(path);
  return path;
}

/** Says that a temporary file was renamed or removed. */
export function forgetTemporaryFile(path: string): void {
  open.delete(path);
}

/** Removes the temporary files of writes in progress; for signal handlers and exits, hence synchronous and silent. */
export function removeTemporaryFiles(): void {
  for (const path of open) {
    try {
      unlinkSync(path);
    } catch {
      // Not created yet, or already renamed: nothing to clean, and nothing to report from an exiting process.
    }
  }
  open.clear();
}

/** Removes temporary files that killed processes left in a folder; never those of other users. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const match = NAME.exec(name);
    const path = join(folder, name);
    if (match && !open.has(path) && (await isLeftover(path, `${match[1]}-${match[2]}`, ABANDONED_AFTER)))
      await rm(path, { force: true }).catch(() => {});
  }
}

/** Whether a file or folder of this user was left by a process that has ended, by its `processName`, or was not changed for so many milliseconds. */
export async function isLeftover(path: string, owner: string, abandonedAfter: number): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || found.isSymbolicLink() || (process.getuid && found.uid !== process.getuid())) return false;
  const [machine, pid] = owner.split("-") as [string, string];
  if (processName().startsWith(`${machine}-`) && !isRunning(Number(pid))) return true;
  return Date.now() - found.mtimeMs > abandonedAfter;
}

/** Whether a process of this machine runs. One that has ended, and whose parent has not asked for its status yet, does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as another user.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  return !hasEnded(pid);
}

// Field 3 of proc_pid_stat(5): Z for a zombie, X for dead. The field before it is the program's name in parentheses, with whatever it has.
function hasEnded(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return /^\) [ZX]/.test(stat.slice(stat.lastIndexOf(")")));
  } catch {
    // Not Linux.
    return false;
  }
}
