// Format and quality of the picture of an edit, where no file name says the format.
import { extname } from "node:path";
import { formatOf, type PictureFormat } from "../../image/io/write.js";
import { param, QeditError } from "../../std/errors.js";
import type { GivenValues } from "../resolve/given.js";

/** Formats by the values of the parameter `format`. */
export const FORMATS: Readonly<Record<string, PictureFormat>> = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" };

/** The format by a path's extension, else by the parameter `format`. Throws QEDIT_E_USAGE if they differ, and for a name without a known format. */
export function formatOfPath(path: string, name: string | undefined): PictureFormat {
  if (name === undefined) return formatOf(path);
  const byName = FORMATS[extname(path).slice(1).toLowerCase()];
  if (byName === undefined || byName === FORMATS[name]) return FORMATS[name]!;
  throw new QeditError("QEDIT_E_USAGE", `Cannot write ${path} as ${name}: its name says ${extname(path).slice(1)}`, {
    hint: `Leave out ${param("format")}, or change the name`,
    parameter: "format",
  });
}

/** MIME types of the formats. */
export const MIME_TYPES: Readonly<Record<PictureFormat, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  webp: "image/webp",
};

/** The settings of quality, each of one format. */
export interface QualitySettings {
  readonly jpegQuality: number | undefined;
  readonly webpQuality: number | undefined;
}

/** The setting of a format's quality. */
export const QUALITY_OF: Readonly<Partial<Record<PictureFormat, keyof QualitySettings>>> = {
  jpeg: "jpegQuality",
  webp: "webpQuality",
};

/** How a picture is encoded. */
export interface PictureEncoding {
  readonly format: PictureFormat;
  readonly quality: number | undefined;
}

/** Format and quality by the settings alone: PNG unless `format` names another. */
export function encodingOf(settings: QualitySettings & { readonly format: string | undefined }): PictureEncoding {
  const format = FORMATS[settings.format ?? "png"]!;
  const setting = QUALITY_OF[format];
  return { format, quality: setting && settings[setting] };
}

/** Throws QEDIT_E_USAGE for a quality of another format that was asked for in this call. */
export function refuseOtherQuality(format: PictureFormat, given: GivenValues): void {
  for (const [setting, name] of [
    ["jpegQuality", "jpeg_quality"],
    ["webpQuality", "webp_quality"],
  ] as const) {
    if (!given.get(setting)?.isOfCall || QUALITY_OF[format] === setting) continue;
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param(name)} for a ${format} picture: it has no effect`, {
      hint: `Leave it out, or ask for ${param("format", setting === "jpegQuality" ? "jpeg" : "webp")}`,
      parameter: name,
    });
  }
}
