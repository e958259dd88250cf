// Finds pictures by file, folder or glob pattern. Expands patterns itself, so that they work the same in every shell.
import { open, readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { formatByStart, START_BYTES } from "../../image/io/picture-formats.js";
import { nameOfOtherBytes } from "../../image/io/read.js";
import { QeditError } from "../../std/errors.js";
import { hasNameOfOtherBytes } from "../../std/file-names.js";

/** A picture to edit, and its folder relative to the folder or the fixed part of the pattern that matched it. */
export interface FoundPicture {
  readonly path: string;
  /** `a/b` for photos/a/b/cat.jpg by the pattern photos/**; empty for a named file. */
  readonly below: string;
  /** Whether the user gave this path, not a pattern or folder. */
  readonly isNamed: boolean;
}

/** What the arguments stand for. */
export interface FoundPictures {
  readonly pictures: readonly FoundPicture[];
  /** For each argument that passed over pictures, how many and why: `photos: 2 files …, 1 hidden file`. */
  readonly passedOver: readonly string[];
}

/** Extensions of the files that patterns and folders match; a named file may have any. */
const PICTURE = /\.(jpe?g|jfif|png|webp|gif|tiff?|avif|hei[cf]|hif|jxl|bmp|dib)$/i;

/** Extensions of pictures that are not read. */
const UNREAD =
  /\.(psd|psb|xcf|kra|jp2|j2k|jpx|jxr|wdp|ico|exr|hdr|qoi|dds|tga|pcx|p[bgnp]m|svgz?|eps|pdf|dng|cr[23w]|nef|nrw|arw|srf|raf|orf|rw2|pef|srw|x3f|iiq|3fr)$/i;

/** Finds each picture once, in the order of the arguments; those of one pattern sorted by name. Throws QEDIT_E_USAGE for an argument without pictures. */
export async function picturesOf(args: readonly string[]): Promise<FoundPictures> {
  const found = new Map<string, FoundPicture>();
  const passedOver: string[] = [];
  for (const arg of args) {
    const { pictures, passed } = await picturesOfOne(arg);
    for (const picture of pictures) {
      const key = resolve(picture.path);
      const earlier = found.get(key);
      if (!earlier || (picture.isNamed && !earlier.isNamed)) found.set(key, picture);
    }
    if (passed.length > 0) passedOver.push(`${arg}: ${passed.join(", ")}`);
  }
  return { pictures: [...found.values()], passedOver };
}

interface FoundByOne {
  readonly pictures: readonly FoundPicture[];
  /** Pictures that were passed over, a text for each reason. */
  readonly passed: readonly string[];
}

async function picturesOfOne(arg: string): Promise<FoundByOne> {
  // An existing path is not a pattern: names may contain brackets and stars.
  const existing = await stat(arg).catch(() => undefined);
  if (existing?.isDirectory()) return picturesIn(arg);
  if (existing) return { pictures: [{ path: arg, below: "", isNamed: true }], passed: [] };
  const { glob, isDynamicPattern } = await import("tinyglobby");
  if (await hasNameOfOtherBytes(arg)) throw nameOfOtherBytes(arg);
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
  return {
    pictures: pictures.map((path) => ({ path, below: inside(base, dirname(path)), isNamed: false })),
    passed: await passedAmong(matched),
  };
}

async function picturesIn(folder: string): Promise<FoundByOne> {
  const entries = await readdir(folder, { withFileTypes: true });
  const visible = entries.filter((each) => !each.name.startsWith("."));
  const files = visible.filter((each) => !each.isDirectory()).map(({ name }) => name);
  const names = files.filter((name) => PICTURE.test(name));
  const hidden = entries.filter((each) => each.name.startsWith(".") && PICTURE.test(each.name)).length;
  const folders = visible.filter((each) => each.isDirectory()).length;
  const passed = [
    ...(await passedAmong(files.map((name) => join(folder, name)))),
    ...(hidden === 0 ? [] : [counted(hidden, "hidden file")]),
    ...(folders === 0 ? [] : [counted(folders, "folder")]),
  ];
  if (names.length === 0)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `No picture is in the folder ${folder}${passed.length === 0 ? "" : `, only ${passed.join(", ")}`}`,
      { hint: `Go into its folders with '${join(folder, "**/*.jpg")}'` },
    );
  const pictures = names.map((name) => ({ path: join(folder, name), below: "", isNamed: false }));
  return { pictures: pictures.sort((a, b) => byName(a.path, b.path)), passed };
}

// Pictures among files of other endings: of formats that are not read, and by their first bytes.
async function passedAmong(paths: readonly string[]): Promise<string[]> {
  const others = paths.filter((path) => !PICTURE.test(path));
  const unread = others.filter((path) => UNREAD.test(path));
  let misnamed = 0;
  for (const path of others) if (!UNREAD.test(path) && (await startsAsPicture(path))) misnamed++;
  const endings = [...new Set(unread.map((path) => extname(path).toLowerCase()))].sort();
  return [
    ...(unread.length === 0
      ? []
      : [`${counted(unread.length, "file")} of formats that are not read (${endings.join(", ")})`]),
    ...(misnamed === 0 ? [] : [`${counted(misnamed, "picture")} whose name does not end as one`]),
  ];
}

async function startsAsPicture(path: string): Promise<boolean> {
  try {
    const handle = await open(path);
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(START_BYTES), 0, START_BYTES, 0);
      return formatByStart(buffer.subarray(0, bytesRead)) !== undefined;
    } finally {
      await handle.close();
    }
  } catch {
    // Whatever cannot be read is no picture that could be edited.
    return false;
  }
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
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
