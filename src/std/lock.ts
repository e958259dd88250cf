// One download of a file at a time: NAME.lock names the process that holds it, and is kept fresh while that process lives.
import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { ioFailure } from "./files.js";

/** Interval at which a holder touches its lock, milliseconds. */
const BEAT = 5_000;
/** Age of a lock, since its holder last touched it, from which its process counts as gone, milliseconds. */
const STALE = 60_000;
/** Interval at which a waiting process tries again, milliseconds. */
const LOOK = 250;

/** Who holds a lock. */
export interface Holder {
  readonly pid: number;
  readonly host: string;
}

/** Runs work while holding the lock of a file; waits for another holder, calling `onWait` once. Throws QEDIT_E_IO, and what the work throws. */
export async function withLock<T>(
  target: string,
  { signal, onWait }: { signal: AbortSignal; onWait: (holder: Holder) => void },
  work: () => Promise<T>,
): Promise<T> {
  const path = `${target}.lock`;
  let isReported = false;
  while (!(await take(path))) {
    const holder = await holderOf(path);
    if (holder === undefined) continue;
    if (await isGone(path, holder)) {
      await discard(path, holder);
      continue;
    }
    if (!isReported) onWait(holder);
    isReported = true;
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

// Undefined when it is free by now; a lock that is being written, or was torn, has no known holder.
async function holderOf(path: string): Promise<Holder | undefined> {
  const written = await readFile(path, "utf8").catch(() => undefined);
  if (written === undefined) return undefined;
  try {
    return JSON.parse(written) as Holder;
  } catch {
    return { pid: 0, host: "" };
  }
}

async function isGone(path: string, { pid, host }: Holder): Promise<boolean> {
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  if (age > STALE) return true;
  if (host !== hostname() || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    return !(error instanceof Error && "code" in error && error.code === "EPERM");
  }
}

// Of several processes that find a lock stale, each moves aside what it finds; one that moved a fresh lock puts it back.
async function discard(path: string, stale: Holder): Promise<void> {
  const aside = `${path}.${process.pid}`;
  await rename(path, aside).catch(() => {});
  const moved = await holderOf(aside);
  const isFresh = moved !== undefined && (moved.pid !== stale.pid || moved.host !== stale.host);
  if (isFresh) await rename(aside, path).catch(() => {});
  else await rm(aside, { force: true });
}
