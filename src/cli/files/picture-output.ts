// Names and formats of output pictures. The extension or --format determines the format; the default name derives from the input's.
import { basename, dirname, extname, join } from "node:path";
import {
  FORMATS,
  formatOfPath,
  type PictureEncoding,
  QUALITY_OF,
  type QualitySettings,
} from "../../edit/finish/picture-encoding.js";
import type { PictureFormat } from "../../image/io/write.js";
import { QeditError } from "../../std/errors.js";
import { STREAM } from "../io.js";
import type { GivenSetting } from "../settings/settings.js";
import { isFolderName } from "./output.js";

/** What determines name and format. */
export interface PictureSettings {
  readonly output: string | undefined;
  readonly format: string | undefined;
}

/**
 * The path of a picture: --output, else the input's name with a suffix, beside the input or in the folder that --output names with a slash at its end.
 * Throws QEDIT_E_USAGE for a name without a known format.
 */
export function picturePath({ output, format: name }: PictureSettings, input: string, suffix: string): string {
  if (output === undefined || isFolderName(output)) {
    const stem = input === STREAM ? "stdin" : basename(input, extname(input));
    return join(output ?? (input === STREAM ? "" : dirname(input)), `${stem}${suffix}.${name ?? "png"}`);
  }
  pictureFormat(output, name);
  return output;
}

/** The path of a picture that is made of a prompt alone: --output, else `generated`, with the line of its job. */
export function generatedPath(settings: PictureSettings, line?: number): string {
  return picturePath(settings, "generated", line === undefined ? "" : `-${line}`);
}

/** The format by extension, else by --format, else png on stdout. Throws QEDIT_E_USAGE if extension and --format differ. */
export function pictureFormat(path: string, name: string | undefined): PictureFormat {
  return path === STREAM ? FORMATS[name ?? "png"]! : formatOfPath(path, name);
}

/** Format and quality of the picture at a path. */
export function pictureEncoding(
  path: string,
  settings: QualitySettings & { readonly format: string | undefined },
): PictureEncoding {
  const format = pictureFormat(path, settings.format);
  const setting = QUALITY_OF[format];
  return { format, quality: setting && settings[setting] };
}

/** Throws QEDIT_E_USAGE for a quality of another format that was asked for in this call. */
export function refuseUselessQuality(format: PictureFormat, given: ReadonlyMap<string, GivenSetting>): void {
  for (const setting of ["jpegQuality", "webpQuality"] as const) {
    const asked = given.get(setting);
    if (asked === undefined || !asked.isOfCall || QUALITY_OF[format] === setting) continue;
    const wanted = setting === "jpegQuality" ? "jpg" : "webp";
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${asked.name} for a ${format} picture: it has no effect`, {
      hint: `Leave it out, or end the name of the output in .${wanted}`,
    });
  }
}

/** The path of the picture of one seed of several: `out.png` → `out-seed42.png`, so that other seeds meet no files of these. */
export function seedPath(path: string, seed: bigint): string {
  const extension = extname(path);
  return `${path.slice(0, path.length - extension.length)}-seed${seed}${extension}`;
}

/** The path of file `index` of several: `out.png` → `out-0001.png`. */
export function numberedPath(path: string, index: number): string {
  const extension = extname(path);
  return `${path.slice(0, path.length - extension.length)}-${String(index).padStart(4, "0")}${extension}`;
}
