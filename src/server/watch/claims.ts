// Claims on the files of a watched folder, which several machines may share. A file is claimed by renaming it into `processing/`, which one of them
// can do; who works on it touches it. One that nobody has touched for a while goes back to where it was.
import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ioFailure } from "../../std/files.js";

/** Interval at which a claimed file is touched, milliseconds. */
const BEAT = 10_000;
/** Milliseconds without a touch after which a claim is taken for abandoned. */
const ABANDONED_AFTER = 120_000;

/** Where claimed files lie, and where they go. */
const PROCESSING = "processing";

/** A claimed file. */
export interface Claim {
  readonly name: string;
  /** Its path while it is claimed. */
  readonly path: string;
  /** Moves it to a folder, `done` or `failed`, and ends the claim. A file of that name there is replaced. */
  readonly moveTo: (folder: string) => Promise<void>;
  /** Puts it back, for whoever comes next. */
  readonly release: () => Promise<void>;
}

/** Claims a file; undefined if another process was faster. Throws QEDIT_E_IO. */
export async function claim(folder: string, name: string): Promise<Claim | undefined> {
  const path = join(folder, PROCESSING, name);
  await mkdir(join(folder, PROCESSING), { recursive: true });
  // A claim of that name means that it is worked on: a rename would replace it.
  if (await exists(path)) return undefined;
  try {
    await rename(join(folder, name), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw ioFailure("write", path, error);
  }
  await touch(path);
  const beat = setInterval(() => void touch(path), BEAT).unref();
  const moveInto = async (target: string) => {
    clearInterval(beat);
    await mkdir(target, { recursive: true });
    await rename(path, join(target, name)).catch((error: unknown) => {
      throw ioFailure("write", join(target, name), error);
    });
  };
  return { name, path, moveTo: (to) => moveInto(join(folder, to)), release: () => moveInto(folder) };
}

/** Puts back files whose machine has died. Gives their names. */
export async function releaseAbandoned(folder: string): Promise<readonly string[]> {
  const processing = join(folder, PROCESSING);
  const names = await readdir(processing).catch(() => []);
  if (names.length === 0) return [];
  const now = await clockOf(processing);
  const released: string[] = [];
  for (const name of names.filter((each) => !each.startsWith("."))) {
    const path = join(processing, name);
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined || now - found.ctimeMs < ABANDONED_AFTER || (await exists(join(folder, name)))) continue;
    // Of several that try, one succeeds.
    const isMoved = await rename(path, join(folder, name)).then(
      () => true,
      () => false,
    );
    if (isMoved) released.push(name);
  }
  return released;
}

/** The time by the clock of the folder's file system, which may be another machine's; milliseconds since the epoch. */
export async function clockOf(folder: string): Promise<number> {
  const path = join(folder, `.clock-${randomBytes(8).toString("hex")}`);
  try {
    await (await open(path, "wx")).close();
    return (await lstat(path)).ctimeMs;
  } catch (error) {
    throw ioFailure("write", path, error);
  } finally {
    await rm(path, { force: true });
  }
}

// Sets the time of the last change of its status, by the file system's own clock, and nothing else.
async function touch(path: string): Promise<void> {
  await lstat(path)
    .then(({ mode }) => chmod(path, mode & 0o7777))
    .catch(() => {});
}

function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
