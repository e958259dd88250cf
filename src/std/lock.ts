// A lock file beside a target, `TARGET.lock`: it names the process that holds it, which touches it as long as it runs.
import { lstat, open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { QeditError } from "./errors.js";
import { ioFailure } from "./files.js";
import { isObject } from "./guards.js";
import { forgetTemporaryFile, isRunning, temporaryPath } from "./temporary-files.js";

/** Interval at which a holder touches its lock, milliseconds. */
const BEAT = 5_000;
/** A lock that was not touched for so long is stale, milliseconds. */
const STALE = 60_000;
/** No clock is so far ahead, milliseconds: a lock that says so was touched by none of its holders. */
const FUTURE = 3600_000;
/** Interval at which a waiting process tries again, milliseconds. */
const LOOK = 250;
/** Bytes of a lock; ours have less than a hundred. */
const LARGEST_LOCK = 4096;

/** The process that holds a lock. */
export interface Holder {
  /** 0 when it is unknown. */
  readonly pid: number;
  readonly host: string;
}

const UNKNOWN_HOLDER: Holder = { pid: 0, host: "" };

/**
 * Runs work while holding the lock of a target, whose folder must exist. Waits while another process holds it, calling `onWait` once; when
 * `onWait` throws, it does not wait. Throws QEDIT_E_IO, the reason of the signal, and what the work throws.
 */
export async function withLock<T>(
  target: string,
  { signal, onWait }: { signal: AbortSignal; onWait: (holder: Holder) => void },
  work: () => Promise<T>,
): Promise<T> {
  const path = `${target}.lock`;
  let [isReported, looks] = [false, 0];
  while (!(await take(path))) {
    const holder = await holderOf(path);
    if (holder === undefined) continue;
    if (await isGone(path, holder)) {
      await discard(path, holder);
      continue;
    }
    // A lock without a holder is probably being written: its next reading names one.
    const isSettled = holder.pid > 0 || looks++ > 0;
    if (isSettled && !isReported) onWait(holder);
    isReported ||= isSettled;
    await sleep(LOOK, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  const beat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), BEAT);
  beat.unref();
  try {
    return await work();
  } finally {
    clearInterval(beat);
    await rm(path, { force: true });
  }
}

/** Whether there is a lock of a target, held or left. */
export async function isLocked(target: string): Promise<boolean> {
  return lstat(`${target}.lock`).then(
    () => true,
    () => false,
  );
}

async function take(path: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx");
    await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder));
    await handle.close();
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw ioFailure("write", path, error);
  }
}

// Undefined when the lock was released meanwhile; one that is being written, or was left half written, has no known holder.
async function holderOf(path: string): Promise<Holder | undefined> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  if (!found.isFile())
    throw new QeditError("QEDIT_E_IO", `Cannot use the lock ${path}: it is not a file`, {
      hint: "Remove it, if no program needs it",
    });
  if (found.size > LARGEST_LOCK) return UNKNOWN_HOLDER;
  try {
    const holder: unknown = JSON.parse(await readFile(path, "utf8"));
    if (isObject(holder) && Number.isSafeInteger(holder["pid"]) && typeof holder["host"] === "string")
      return { pid: Number(holder["pid"]), host: holder["host"] };
  } catch {
    // Half written, or just released.
  }
  return UNKNOWN_HOLDER;
}

async function isGone(path: string, { pid, host }: Holder): Promise<boolean> {
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  if (age > STALE || age < -FUTURE) return true;
  if (host !== hostname() || pid <= 0) return false;
  return !isRunning(pid);
}

// Several processes may find a lock stale at once: each renames what is there, and one that renamed a fresh lock puts it back.
async function discard(path: string, stale: Holder): Promise<void> {
  const aside = temporaryPath(dirname(path));
  await rename(path, aside).catch(() => {});
  const moved = await holderOf(aside);
  const isFresh = moved !== undefined && (moved.pid !== stale.pid || moved.host !== stale.host);
  if (isFresh) await rename(aside, path).catch(() => {});
  else await rm(aside, { force: true });
  forgetTemporaryFile(aside);
}
