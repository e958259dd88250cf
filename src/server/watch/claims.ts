// Claims on the files of a watched folder, which several machines may share. A file is claimed by renaming it into `processing/`, which one of them
// can do; who works on it touches it. One that nobody has touched for a while goes back to where it was.
import { randomBytes } from "node:crypto";
import { chmod, link, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readBounded, writeFileAtomically } from "../../std/files.js";

/** Interval at which a claimed file is touched, milliseconds. */
const BEAT = 10_000;
/** Milliseconds without a touch after which a claim is taken for abandoned. */
const ABANDONED_AFTER = 120_000;

/** Where claimed files lie. */
export const PROCESSING = "processing";

/** A claimed file. */
export interface Claim {
  readonly name: string;
  /** Its path while it is claimed. */
  readonly path: string;
  /** Moves it to a folder, `done` or `failed`, and ends the claim. Where its name is taken it gets a number: `photo-2.jpg`. */
  readonly moveTo: (folder: string) => Promise<void>;
  /** Puts it back, for whoever comes next. */
  readonly release: () => Promise<void>;
}

/** Claims a file; undefined if another process was faster. Throws QEDIT_E_IO. */
export async function claim(folder: string, name: string): Promise<Claim | undefined> {
  const path = join(await folderWithin(folder, PROCESSING), name);
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
    await moveFree(path, target, name);
  };
  return {
    ...{ name, path },
    moveTo: async (to) => moveInto(await folderWithin(folder, to)),
    release: () => moveInto(folder),
  };
}

/** A folder of a watched one, made if it is missing. Throws QEDIT_E_IO for a link, which would lead results elsewhere. */
export async function folderWithin(folder: string, name: string): Promise<string> {
  const path = join(folder, name);
  try {
    await mkdir(path, { recursive: true });
    if ((await lstat(path)).isDirectory()) return path;
  } catch (error) {
    throw ioFailure("write", path, error);
  }
  throw new QeditError("QEDIT_E_IO", `Cannot write into ${path}: it is a link`, { hint: "Make it a folder" });
}

/** Writes a file under its name, or where that is taken by other bytes under one with a number. Gives the name. Throws QEDIT_E_IO. */
export async function writeFree(folder: string, name: string, bytes: Uint8Array): Promise<string> {
  for (let index = 1; ; index += 1) {
    const free = numbered(name, index);
    try {
      await writeFileAtomically(join(folder, free), bytes, { overwrite: false, hasPipes: false });
      return free;
    } catch (error) {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_EXISTS")) throw error;
      // Written before a crash. What cannot be read, such as a pipe, is something else.
      const found = await readBounded(join(folder, free), bytes.length).catch(() => undefined);
      if (found?.equals(bytes)) return free;
    }
  }
}

// A link never replaces a file, unlike a rename.
async function moveFree(path: string, folder: string, name: string): Promise<void> {
  for (let index = 1; ; index += 1) {
    const target = join(folder, numbered(name, index));
    const isLinked = await link(path, target).then(
      () => true,
      () => false,
    );
    if (!isLinked && (await exists(target))) continue;
    // Without a link: a file system that has none.
    await (isLinked ? rm(path) : rename(path, target)).catch((error: unknown) => {
      throw ioFailure("write", target, error);
    });
    return;
  }
}

// `photo.jpg` → `photo-2.jpg`, `one.job.json` → `one-2.job.json`; the first has no number.
function numbered(name: string, index: number): string {
  if (index === 1) return name;
  const ending = /(\.job\.json|\.error\.json|\.[^.]*)$/.exec(name)?.[0] ?? "";
  return `${name.slice(0, name.length - ending.length)}-${index}${ending}`;
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
    throw ioFailure("write", folder, error);
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
