// What lies in a watched folder as a request: a job file, `NAME.job.json`, or a picture beside the folder's `prompt.txt` or `qedit.json`. Whoever
// can write into the folder is taken for a client over a network: files of this machine cannot be named, pictures only within the folder.
import { lstat, realpath } from "node:fs/promises";
import { basename, extname, isAbsolute, join, normalize, relative, sep } from "node:path";
import type { EditRequest, NamedBytes } from "../../edit/request/edit-request.js";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readBounded, readTextFile } from "../../std/files.js";
import { isObject } from "../../std/guards.js";

/** Ending of job files. */
export const JOB_ENDING = ".job.json";
/** Endings of pictures that are taken by themselves. */
export const PICTURE_ENDINGS: readonly string[] = [
  ".png",
  ".jpg",
  ".jpeg",
  ".webp",
  ".avif",
  ".heic",
  ".jxl",
  ".bmp",
  ".tif",
  ".tiff",
  ".gif",
];

const PROMPT_FILE = "prompt.txt";
const SETTINGS_FILE = "qedit.json";
/** Bytes of a job file, a prompt or settings. */
const LARGEST_TEXT = 2 ** 20;

/** A request, and the name of its result. */
export interface WatchedJob {
  readonly request: EditRequest;
  /** Without folders; its ending says the format. */
  readonly output: string;
}

const FORMAT_OF: Readonly<Record<string, string>> = { ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp" };

/** The request of a claimed job file. Throws QEDIT_E_USAGE, QEDIT_E_IMAGE, QEDIT_E_IO. */
export async function readJobFile(path: string, folder: string, most: number): Promise<WatchedJob> {
  const { images, mask, output, ...rest } = await readObject(path);
  const name = basename(path).slice(0, -JOB_ENDING.length);
  if (!Array.isArray(images) || images.length === 0 || !images.every((each) => typeof each === "string"))
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${basename(path)}: "images" must be a list of names`, {
      hint: '{"images": ["photo.jpg"], "prompt": "make it winter"}',
      parameter: "images",
    });
  const pictures: NamedBytes[] = [];
  for (const image of images as readonly string[]) pictures.push(await within(folder, image, most));
  if (mask !== undefined && mask !== null && typeof mask !== "string")
    throw new QeditError("QEDIT_E_USAGE", 'Cannot use "mask": the name of one picture is wanted', {
      parameter: "mask",
    });
  const masked = typeof mask === "string" ? await within(folder, mask, most) : undefined;
  return withOutput({ pictures, mask: masked, parameters: underscored(rest) }, output, name);
}

/** The request of a claimed picture, by the folder's prompt and settings. Throws as readJobFile. */
export async function readPictureFile(path: string, folder: string, most: number): Promise<WatchedJob> {
  const { output: _, images: _images, ...settings } = (await readIfThere(join(folder, SETTINGS_FILE))) ?? {};
  const prompt = await promptOf(folder);
  const parameters = { ...underscored(settings), ...(prompt !== undefined && { prompt }) };
  const name = basename(path);
  const picture = { name, bytes: await bytesOf(path, most) };
  const stem = name.slice(0, name.length - extname(name).length);
  return withOutput({ pictures: [picture], parameters }, undefined, `${stem}-edit`);
}

/** Whether pictures of the folder are taken by themselves. */
export async function hasOwnPrompt(folder: string): Promise<boolean> {
  return (await isFile(join(folder, PROMPT_FILE))) || (await isFile(join(folder, SETTINGS_FILE)));
}

/** The names of pictures that a job file waits for. Throws QEDIT_E_USAGE when it is no JSON. */
export async function picturesOf(path: string): Promise<readonly string[]> {
  const { images, mask } = await readObject(path);
  return [images, mask].flat().filter((name): name is string => typeof name === "string");
}

function withOutput(request: EditRequest, output: unknown, name: string): WatchedJob {
  const { format } = request.parameters;
  if (output === undefined || output === null)
    return { request, output: `${name}.${typeof format === "string" ? format : "png"}` };
  const ending = typeof output === "string" ? extname(output).toLowerCase() : "";
  const wanted = FORMAT_OF[ending];
  if (typeof output !== "string" || basename(output) !== output || wanted === undefined)
    throw new QeditError(
      "QEDIT_E_USAGE",
      'Cannot use "output": a name without folders that ends in .png, .jpg or .webp is wanted',
      {
        parameter: "output",
      },
    );
  if (format !== undefined && format !== null && FORMAT_OF[`.${String(format)}`] !== wanted)
    throw new QeditError("QEDIT_E_USAGE", `Cannot write ${output} as ${String(format)}: its name says ${wanted}`, {
      hint: 'Leave out "format", or change the ending of "output"',
      parameter: "format",
    });
  return { request: { ...request, parameters: { ...request.parameters, format: wanted } }, output };
}

// A file of the folder: no path out of it, and no link to elsewhere.
async function within(folder: string, name: string, most: number): Promise<NamedBytes> {
  const path = join(folder, name);
  const outside = () =>
    new QeditError("QEDIT_E_USAGE", `Cannot read ${name.slice(0, 200)}: it is not in the watched folder`, {
      hint: "Name pictures relative to the folder",
      parameter: "images",
    });
  if (leadsOut(name)) throw outside();
  const [root, real] = await Promise.all([realpath(folder), realpath(path)]).catch((error: unknown) => {
    throw ioFailure("read", name, error);
  });
  const inside = relative(root, real);
  if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside)) throw outside();
  return { name: basename(name), bytes: await bytesOf(real, most) };
}

/** Whether a name leads out of its folder, links aside. */
export function leadsOut(name: string): boolean {
  return isAbsolute(name) || name.includes("\0") || normalize(name).startsWith("..");
}

async function bytesOf(path: string, most: number): Promise<Uint8Array> {
  return readBounded(path, most).catch((error: unknown) => {
    throw ioFailure("read", basename(path), error);
  });
}

async function readObject(path: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readTextFile(path, LARGEST_TEXT);
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch (error) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${basename(path)}: it is not JSON (${(error as Error).message})`);
  }
  throw new QeditError("QEDIT_E_USAGE", `Cannot use ${basename(path)}: it is JSON, but no object`);
}

async function readIfThere(path: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  return (await isFile(path)) ? readObject(path) : undefined;
}

async function promptOf(folder: string): Promise<string | undefined> {
  const path = join(folder, PROMPT_FILE);
  return (await isFile(path)) ? (await readTextFile(path, LARGEST_TEXT)).replace(/\r?\n$/, "") : undefined;
}

async function isFile(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

// As job lines of a batch: dashes or underscores.
function underscored(values: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const read = new Map<string, unknown>();
  for (const [name, value] of Object.entries(values)) {
    const key = name.replaceAll("-", "_");
    if (read.has(key))
      throw new QeditError("QEDIT_E_USAGE", `Cannot use "${name}": it is given twice, with dashes and underscores`, {
        hint: "Give it once",
        parameter: key,
      });
    read.set(key, value);
  }
  return Object.fromEntries(read);
}
