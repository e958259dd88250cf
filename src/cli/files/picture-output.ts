// Names and formats of pictures that are written: the name decides the format, or --format does; no name makes one from the input.
import { basename, dirname, extname, join } from "node:path";
import { formatOf, type PictureFormat } from "../../image/io/write.js";
import { QeditError } from "../../std/errors.js";
import { STREAM } from "./output.js";

const FORMATS: Readonly<Record<string, PictureFormat>> = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" };

/** What decides name and format. */
export interface PictureSettings {
  readonly output: string | undefined;
  readonly format: string | undefined;
}

/** The path of a picture: as it was given, else the input's name with an ending. Throws QEDIT_E_USAGE for a name that says no format. */
export function picturePath({ output, format: name }: PictureSettings, input: string, ending: string): string {
  if (output === undefined) {
    const place = input === STREAM ? "stdin" : join(dirname(input), basename(input, extname(input)));
    return `${place}${ending}.${name ?? "png"}`;
  }
  pictureFormat(output, name);
  return output;
}

/** What the name says, else --format, which stdout needs unless it is png. Throws QEDIT_E_USAGE when the two contradict each other. */
export function pictureFormat(path: string, name: string | undefined): PictureFormat {
  if (path === STREAM) return FORMATS[name ?? "png"]!;
  if (name === undefined) return formatOf(path);
  const said = FORMATS[extname(path).slice(1).toLowerCase()];
  if (said === undefined || said === FORMATS[name]) return FORMATS[name]!;
  throw new QeditError("QEDIT_E_USAGE", `Cannot write ${path} as ${name}: its name says ${extname(path).slice(1)}`, {
    hint: "Leave out --format, or change the name",
  });
}

/** The path of picture `index` of several: `out.png` → `out-0001.png`. */
export function numberedPath(path: string, index: number): string {
  const extension = extname(path);
  return `${path.slice(0, path.length - extension.length)}-${String(index).padStart(4, "0")}${extension}`;
}
