// A lock file beside a target, `TARGET.lock`: it names the process that holds it, which touches it as long as it runs. The process id counts only
// where it is known which process it means: on this machine, in this namespace. Elsewhere the holder counts as long as it touches the lock.
import { lstat, open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { QeditError } from "./errors.js";
import { ioFailure } from "./files.js";
import { isObject } from "./guards.js";
import { ownOrigin, type ProcessOrigin, parsedOrigin, startOf } from "./process-origin.js";
import { forgetTemporaryFile, isRunning, temporaryPath } from "./temporary-files.js";

/** Interval at which a holder touches its lock, milliseconds. */
const BEAT = 5_000;
/** A lock that was not touched for so long is stale, milliseconds. */
const STALE = 60_000;
/** A lock of this container from before its restart is stale sooner: no other system's clock or cache is between. */
const STALE_HERE = 3 * BEAT;
/** So long a lock is waited for that is probably stale then: one that is not was touched meanwhile. */
const EARLIER_ENDS = STALE_HERE + 1000;
/** No clock is so far ahead, milliseconds: a lock that says so was touched by none of its holders. */
const FUTURE = 3600_000;
/** Interval at which a waiting process tries again, milliseconds. */
const LOOK = 250;
/** Bytes of a lock; ours have a few hundred. */
const LARGEST_LOCK = 4096;

/** The process that holds a lock. */
export interface Holder {
  /** 0 when it is unknown. */
  readonly pid: number;
  readonly host: string;
}

/** What is in a lock file; the origin is undefined in those of systems that know none. */
interface Lock extends Holder {
  readonly origin: ProcessOrigin | undefined;
}

const UNKNOWN_HOLDER: Lock = { pid: 0, host: "", origin: undefined };

/**
 * Runs work while holding the lock of a target, whose folder must exist. Waits while another process holds it, calling `onWait` once; when
 * `onWait` throws, it does not wait. A lock that this container seems to have held before it was started again is waited for first. Throws QEDIT_E_IO, the reason of the signal, and what the work throws.
 */
export async function withLock<T>(
  target: string,
  { signal, onWait }: { signal: AbortSignal; onWait: (holder: Holder) => void },
  work: () => Promise<T>,
): Promise<T> {
  const path = `${target}.lock`;
  let [isReported, looks] = [false, 0];
  const start = performance.now();
  while (!(await take(path))) {
    const holder = await holderOf(path);
    if (holder === undefined) continue;
    if (await isGone(path, holder)) {
      await discard(path, holder);
      continue;
    }
    // A lock without a holder is probably being written: its next reading names one.
    const isSettled =
      (holder.pid > 0 || looks++ > 0) && !(performance.now() - start < EARLIER_ENDS && (await isEarlier(holder)));
    if (isSettled && !isReported) onWait({ pid: holder.pid, host: holder.host });
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
    const origin = await ownOrigin();
    const handle = await open(path, "wx");
    await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname(), origin } satisfies Lock));
    await handle.close();
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw ioFailure("write", path, error);
  }
}

// Undefined when the lock was released meanwhile; one that is being written, or was left half written, has no known holder.
async function holderOf(path: string): Promise<Lock | undefined> {
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
      return { pid: Number(holder["pid"]), host: holder["host"], origin: parsedOrigin(holder["origin"]) };
  } catch {
    // Half written, or just released.
  }
  return UNKNOWN_HOLDER;
}

async function isGone(path: string, { pid, host, origin }: Lock): Promise<boolean> {
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  if (age > STALE || age < -FUTURE) return true;
  if (host !== hostname() || pid <= 0) return false;
  const own = await ownOrigin();
  if (origin === undefined || own === undefined) return !isRunning(pid);
  // Another machine of that name, or this one before it started again.
  if (origin.boot !== own.boot) return false;
  if (origin.namespace === own.namespace)
    return !isRunning(pid) || ((await startOf(pid)) ?? origin.started) !== origin.started;
  return age > STALE_HERE && isEarlier({ host, origin });
}

// Whether this container held it under its present name in another namespace, which is gone unless a process made one inside the container.
async function isEarlier({ host, origin }: Pick<Lock, "host" | "origin">): Promise<boolean> {
  const own = await ownOrigin();
  return (
    host === hostname() &&
    own !== undefined &&
    own.container !== "" &&
    origin?.container === own.container &&
    origin.boot === own.boot &&
    origin.namespace !== own.namespace
  );
}

// Several processes may find a lock stale at once: each renames what is there, and one that renamed a fresh lock puts it back.
async function discard(path: string, stale: Lock): Promise<void> {
  const aside = temporaryPath(dirname(path));
  await rename(path, aside).catch(() => {});
  const moved = await holderOf(aside);
  const isFresh = moved !== undefined && !isDeepStrictEqual(moved, stale);
  if (isFresh) await rename(aside, path).catch(() => {});
  else await rm(aside, { force: true });
  forgetTemporaryFile(aside);
}
