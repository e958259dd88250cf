// Paths that a call writes: none may be another one of the call, through links too.
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { QeditError } from "../../std/errors.js";
import { STREAM } from "../io.js";

/** A path that a flag names to be written; undefined: the flag was not given. */
export interface WrittenPath {
  /** `--sheet`. */
  readonly flag: string;
  readonly path: string | undefined;
}

/** A path of a call, and its use as a clause: `it is an input`, `the result goes there`. */
export interface UsedPath {
  readonly path: string;
  readonly use: string;
}

/** Throws QEDIT_E_USAGE if a written path is that of another flag, or one of those that are used otherwise. */
export async function refuseSharedPaths(written: readonly WrittenPath[], used: readonly UsedPath[]): Promise<void> {
  const given = written.filter(({ path }) => path !== undefined);
  if (given.length === 0) return;
  const uses = new Map<string, string>();
  for (const { path, use } of used) {
    const real = await realFile(path);
    if (real !== undefined && !uses.has(real)) uses.set(real, use);
  }
  for (const { flag, path } of given as readonly Required<{ flag: string; path: string }>[]) {
    const real = await realFile(path);
    if (real === undefined) continue;
    const use = uses.get(real);
    if (use !== undefined)
      throw new QeditError("QEDIT_E_USAGE", `Cannot write ${flag} to ${path}: ${use}`, {
        hint: `Choose another name for ${flag}`,
      });
    uses.set(real, `${flag} goes there too`);
  }
}

/** The inputs of a call by path, for refuseSharedPaths. */
export function asInputs(paths: readonly (string | undefined)[]): UsedPath[] {
  return paths.flatMap((path) => (path === undefined ? [] : [{ path, use: "it is an input" }]));
}

/** The results of a call by path, for refuseSharedPaths. */
export function asResults(paths: readonly (string | undefined)[]): UsedPath[] {
  return paths.flatMap((path) => (path === undefined ? [] : [{ path, use: "a result goes there" }]));
}

/** Whether two paths lead to one file, which may not be there yet. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  const real = await realFile(a);
  return real !== undefined && real === (await realFile(b));
}

/** Where a path leads, whether the file is there or not; undefined for stdin and stdout, devices and pipes, which may be shared. */
export async function realFile(path: string): Promise<string | undefined> {
  if (path === STREAM) return undefined;
  const found = await stat(path).catch(() => undefined);
  return found && !found.isFile() && !found.isDirectory() ? undefined : realPath(resolve(path));
}

function realPath(path: string): Promise<string> {
  return realpath(path).catch(async () =>
    dirname(path) === path ? path : join(await realPath(dirname(path)), basename(path)),
  );
}
