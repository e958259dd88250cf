// Finds pictures by file, folder or glob pattern. Expands patterns itself, so that they work the same in every shell.
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { QeditError } from "../../std/errors.js";

/** A picture to edit, and its folder relative to the folder or the fixed part of the pattern that matched it. */
export interface FoundPicture {
  readonly path: string;
  /** `a/b` for photos/a/b/cat.jpg by the pattern photos/**; empty for a named file. */
  readonly below: string;
  /** Whether the user gave this path, not a pattern or folder. */
  readonly isNamed: boolean;
}

/** Extensions of the files that patterns and folders match; a named file may have any. */
const PICTURE = /\.(jpe?g|png|webp|gif|tiff?|avif)$/i;

/** Finds each picture once, in the order of the arguments; those of one pattern sorted by name. Throws QEDIT_E_USAGE for an argument without pictures. */
export async function picturesOf(args: readonly string[]): Promise<FoundPicture[]> {
  const found = new Map<string, FoundPicture>();
  for (const arg of args) {
    for (const picture of await picturesOfOne(arg)) {
      const key = resolve(picture.path);
      const earlier = found.get(key);
      if (!earlier || (picture.isNamed && !earlier.isNamed)) found.set(key, picture);
    }
  }
  return [...found.values()];
}

async function picturesOfOne(arg: string): Promise<FoundPicture[]> {
  // An existing path is not a pattern: names may contain brackets and stars.
  const existing = await stat(arg).catch(() => undefined);
  if (existing?.isDirectory()) return picturesIn(arg);
  if (existing) return [{ path: arg, below: "", isNamed: true }];
  const { glob, isDynamicPattern } = await import("tinyglobby");
  if (!isDynamicPattern(arg))
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${arg}: there is no such file`, {
      hint: "Check the path of the picture",
    });
  const matched = await glob(arg.split(sep).join("/"), { expandDirectories: false, dot: false, onlyFiles: true });
  const base = fixedPart(arg);
  const pictures = matched.filter((path) => PICTURE.test(path)).sort(byName);
  if (pictures.length === 0) {
    const others =
      matched.length === 0
        ? ""
        : ` (${matched.length} ${matched.length === 1 ? "file matches" : "files match"}, with other endings)`;
    throw new QeditError("QEDIT_E_USAGE", `No picture matches ${arg}${others}`, {
      hint: `Look with \`ls ${dirname(arg)}\`; ** goes into folders, as in 'photos/**/*.jpg'`,
    });
  }
  return pictures.map((path) => ({ path, below: inside(base, dirname(path)), isNamed: false }));
}

async function picturesIn(folder: string): Promise<FoundPicture[]> {
  const names = (await readdir(folder, { withFileTypes: true })).filter(
    (each) => !each.isDirectory() && PICTURE.test(each.name) && !each.name.startsWith("."),
  );
  if (names.length === 0)
    throw new QeditError("QEDIT_E_USAGE", `No picture is in the folder ${folder}`, {
      hint: `Go into its folders with '${join(folder, "**/*.jpg")}'`,
    });
  return names
    .map(({ name }) => ({ path: join(folder, name), below: "", isNamed: false }))
    .sort((a, b) => byName(a.path, b.path));
}

// The folders before the first part with a wildcard.
function fixedPart(pattern: string): string {
  const parts = dirname(pattern).split(/[/\\]/);
  const first = parts.findIndex((part) => /[*?[\]{}()!+@]/.test(part));
  return (first < 0 ? parts : parts.slice(0, first)).join("/") || (pattern.startsWith("/") ? "/" : ".");
}

function inside(base: string, folder: string): string {
  const path = relative(base, folder);
  return path.startsWith("..") ? "" : path;
}

// Natural order: cat2 before cat10.
function byName(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true }) || (a < b ? -1 : 1);
}

/** Whether a picture looks like the result of an edit: its name is NAME-edit, and its folder has a picture NAME. */
export async function looksEdited(path: string): Promise<boolean> {
  const stem = /^(.+)-edit(-\d{4,})?$/.exec(basename(path, extname(path)))?.[1];
  if (stem === undefined) return false;
  const names = await readdir(dirname(path)).catch(() => []);
  return names.some((name) => PICTURE.test(name) && basename(name, extname(name)) === stem);
}
