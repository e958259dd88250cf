// Exact reads, atomic writes, and errors of file operations in words.

import type { Stats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { constants, link, mkdir, open, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { decimalSize } from "./byte-sizes.js";
import { param, QeditError } from "./errors.js";
import { forgetTemporaryFile, removeLeftovers, temporaryPath } from "./temporary-files.js";

/** Node's own limit for one read is 2 GiB - 1; a larger range is read in pieces. */
const LARGEST_READ = 2 ** 30;
/** Bytes that are asked of a pipe at a time. */
const LEAST_READ = 2 ** 16;

const REASONS: Readonly<Record<string, { reason: string; hint: string }>> = {
  ENOSPC: { reason: "no space is left on the disk", hint: "Free some space, or choose another folder" },
  EDQUOT: { reason: "the disk quota is used up", hint: "Free some space, or choose another folder" },
  EFBIG: {
    reason: "the file is larger than the system allows",
    hint: "Raise the limit (`ulimit -f unlimited`), or choose another file system",
  },
  EACCES: { reason: "permission denied", hint: "Check the permissions of the file and its folder" },
  EPERM: { reason: "operation not permitted", hint: "Check the permissions of the file and its folder" },
  EROFS: { reason: "the file system is read-only", hint: "Choose another folder" },
  EISDIR: { reason: "it is a folder", hint: "Name a file, not a folder" },
  ENOTDIR: { reason: "a part of its path is a file, not a folder", hint: "Check the path" },
  EEXIST: { reason: "a part of its path is a file, not a folder", hint: "Check the path" },
  EPIPE: {
    reason: "no process reads it any more",
    hint: "The next command in the pipeline ended first: look at its message",
  },
  ENXIO: { reason: "it is a socket or a device", hint: "Name a file" },
  ENOENT: { reason: "it does not exist", hint: "Check the path" },
};

/** Permissions of files and folders that only their user may read. */
export const PRIVATE = { file: 0o600, folder: 0o700 };

/** Folders whose leftovers this process has removed. */
const swept = new Set<string>();

/** How a file is written. */
interface WriteOptions {
  /** Whether a file that is there is replaced. */
  readonly overwrite?: boolean;
  /** Whether only the user may read it, and the folders that are made for it. */
  readonly isPrivate?: boolean;
  /** Whether a device or a pipe is written into, which waits for who reads it; otherwise it is a file that is there. */
  readonly hasPipes?: boolean;
}

/**
 * Writes bytes to path, creating missing folders: first to a temporary file beside it, then flushed and renamed, so that path never
 * holds half a file. A symbolic link keeps pointing where it did; devices and pipes are written directly. Also removes temporary files that
 * killed processes left there. Throws QEDIT_E_IO, or QEDIT_E_EXISTS when `overwrite` is false and the file is there by then.
 */
export async function writeFileAtomically(
  path: string,
  bytes: Uint8Array,
  { overwrite = true, isPrivate = false, hasPipes = true }: WriteOptions = {},
): Promise<void> {
  try {
    await makeFolders(dirname(path), { isPrivate });
    const target = await describe(path);
    if (target.isSpecial && hasPipes) {
      await writeAndFlush(path, bytes, { flags: "w" });
      return;
    }
    const mode = isPrivate ? PRIVATE.file : undefined;
    await throughTemporary(target.path, overwrite, (temporary) =>
      writeAndFlush(temporary, bytes, { flags: "wx", mode }),
    );
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

/**
 * As writeFileAtomically, for a file of any length: `write` gets it open and empty, and may write in any order. Throws QEDIT_E_IO for a device or a
 * pipe too, the signal's reason, and what `write` throws.
 */
export async function streamAtomically<T>(
  path: string,
  write: (handle: FileHandle) => Promise<T>,
  { overwrite, signal }: { readonly overwrite: boolean; readonly signal: AbortSignal },
): Promise<T> {
  try {
    await makeFolders(dirname(path));
    const target = await describe(path);
    if (target.isSpecial) throw new Error("it is no file");
    return await throughTemporary(target.path, overwrite, async (temporary) => {
      const handle = await open(temporary, "wx");
      try {
        const result = await write(handle);
        await handle.sync();
        return result;
      } finally {
        await handle.close();
      }
    });
  } catch (error) {
    signal.throwIfAborted();
    throw ioFailure("write", path, error);
  }
}

// Fills a temporary file beside a target, and gives it the target's name; nothing is left of it when that fails.
async function throughTemporary<T>(
  target: string,
  overwrite: boolean,
  fill: (temporary: string) => Promise<T>,
): Promise<T> {
  const folder = dirname(target);
  if (!swept.has(folder)) await removeLeftovers(folder);
  swept.add(folder);
  const temporary = temporaryPath(folder);
  try {
    const result = await fill(temporary);
    await (overwrite ? rename(temporary, target) : renameIfFree(temporary, target));
    return result;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    forgetTemporaryFile(temporary);
  }
}

/** The error for a file that must not be replaced. */
export function existsAlready(path: string): QeditError {
  return new QeditError("QEDIT_E_EXISTS", `Cannot write ${path}: it is there already`, {
    hint: `Replace it with ${param("force")}, or choose another name`,
  });
}

// A link never replaces a file, unlike a rename, even if the file was just created.
async function renameIfFree(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch {
    if (await stat(path).catch(() => undefined)) throw existsAlready(path);
    // A symbolic link to nowhere, or a file system without hard links.
    return rename(temporary, path);
  }
  await rm(temporary, { force: true });
}

/** A text file of at most `most` bytes in UTF-8, without a byte order mark. Throws QEDIT_E_IO for what is no file, longer, or no UTF-8. */
export async function readTextFile(path: string, most: number): Promise<string> {
  const bytes = await readBounded(path, most).catch((error: unknown) => {
    throw ioFailure("read", path, error);
  });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new QeditError("QEDIT_E_IO", `Cannot read ${path}: it is no UTF-8`, { hint: "Save it as UTF-8", cause });
  }
}

/** The text of a file, undefined where there is none. Throws as readTextFile. */
export async function readTextIfThere(path: string, most: number): Promise<string | undefined> {
  return readTextFile(path, most).catch((error: QeditError) => {
    const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  });
}

/** What is read. */
export interface ReadOptions {
  /** Whether pipes are read to their end, which comes when whoever writes into them wants it: for paths that the user typed. */
  readonly hasPipes?: boolean;
}

/**
 * The bytes of a file. Throws QEDIT_E_IO at once for a device, a socket, and a pipe unless pipes are read, for more than `most` bytes, and errors of the
 * file system.
 */
export async function readBounded(path: string, most: number, { hasPipes = false }: ReadOptions = {}): Promise<Buffer> {
  // To open a pipe waits for a writer.
  const handle = await open(path, hasPipes ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = await handle.stat();
    const { size } = found;
    if (found.isDirectory()) throw Object.assign(new Error("is a directory"), { code: "EISDIR" });
    // A device such as /dev/zero has no end.
    if (!found.isFile() && !(hasPipes && found.isFIFO())) throw special(path, found);
    if (size > most) throw tooLong(path, most);
    const parts: Buffer[] = [];
    let length = 0;
    for (let read = 1; read > 0; ) {
      // One byte more than is expected: the end of the file shows at once.
      const part = Buffer.alloc(Math.max(Math.min(size - length, LARGEST_READ) + 1, LEAST_READ));
      ({ bytesRead: read } = await handle.read(part, 0, part.length));
      parts.push(part.subarray(0, read));
      length += read;
      if (length > most) throw tooLong(path, most);
    }
    return Buffer.concat(parts);
  } finally {
    await handle.close();
  }
}

function special(path: string, found: Stats): QeditError {
  const kind = found.isFIFO() ? "a pipe" : found.isSocket() ? "a socket" : "a device";
  return new QeditError("QEDIT_E_IO", `Cannot read ${path}: it is ${kind}`, { hint: "Name a file" });
}

function tooLong(path: string, most: number): QeditError {
  return new QeditError("QEDIT_E_IO", `Cannot read ${path}: it is longer than ${decimalSize(most)}`);
}

/** Exactly length bytes from position on, in an ArrayBuffer of their own; throws a plain Error when the file ends before. */
export async function readRange(
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, LARGEST_READ), position + done);
    if (bytesRead === 0) throw new Error(`the file ends at byte ${position + done}, wanted ${position + length}`);
    done += bytesRead;
  }
  return bytes;
}

/** One line in words for a failed file operation; a QeditError is given back as it is. */
export function ioFailure(verb: "read" | "write", path: string, error: unknown): QeditError {
  if (error instanceof QeditError) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const known = REASONS[code];
  const reason = known?.reason ?? (error instanceof Error ? error.message : String(error));
  return new QeditError("QEDIT_E_IO", `Cannot ${verb} ${path}: ${reason}`, {
    ...(known && { hint: known.hint }),
    cause: error,
  });
}

/** The file that a path stands for, and whether renaming over it would replace a device or a pipe. */
async function describe(path: string): Promise<{ path: string; isSpecial: boolean }> {
  const found = await stat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return { path, isSpecial: false };
  if (found.isDirectory()) throw Object.assign(new Error("is a directory"), { code: "EISDIR" });
  return { path: await realpath(path), isSpecial: !found.isFile() };
}

/** Makes a folder and its parents. One level at a time: Node's recursive mkdir never ends where a folder cannot be made in one that exists, as in /proc. */
export async function makeFolders(folder: string, { isPrivate = false } = {}): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  if (dirname(folder) !== folder) await makeFolders(dirname(folder), { isPrivate });
  await mkdir(folder, isPrivate ? { mode: PRIVATE.folder } : {}).catch((error: NodeJS.ErrnoException) => {
    // Another process may have made it in between.
    if (error.code !== "EEXIST" || found) throw error;
  });
}

async function writeAndFlush(
  path: string,
  bytes: Uint8Array,
  { flags, mode }: { flags: string; mode?: number | undefined },
): Promise<void> {
  const handle = await open(path, flags, mode);
  try {
    await handle.writeFile(bytes);
    // Pipes and terminals cannot be flushed, and need not be.
    await handle.sync().catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && (error.code === "EINVAL" || error.code === "ENOTSUP")))
        throw error;
    });
  } finally {
    await handle.close();
  }
}
