// Picture formats that sharp's libvips does not decode, recognised by their first bytes: each is read by its own decoder or refused by name.
import { QeditError } from "../../std/errors.js";
import type { Size } from "../image.js";
import { bmpSize, isBmp } from "./bmp.js";
import { isJxl, jxlSize } from "./jxl.js";

/** Formats with a decoder of their own; HEIC is not among them, for libvips reads its header. */
export type ForeignFormat = "BMP" | "JPEG XL";

/** Names of formats that are not read, by their first bytes as latin1. */
const REFUSED: readonly (readonly [name: string, start: RegExp])[] = [
  ["JPEG 2000", /^(\0\0\0\x0cjP {2}|\xffO\xffQ)/],
  ["JPEG XR", /^II\xbc/],
  ["a Photoshop document", /^8BPS/],
  ["a GIMP image", /^gimp xcf/],
  ["an icon (ICO)", /^\0\0[\x01\x02]\0/],
  ["OpenEXR", /^v\/1\x01/],
  ["Radiance HDR", /^#\?(RADIANCE|RGBE)/],
  ["QOI", /^qoif/],
  ["DDS", /^DDS /],
  ["PNM", /^P[1-7]\s/],
  ["PDF", /^%PDF/],
  ["a camera's raw file", /^(II\*\0[^]{4}CR|FUJIFILMCCD-RAW|IIRO|IIRS|IIU\0|\0MRM|[^]{4}ftypcrx )/],
  ["a video", /^([^]{4}ftyp(isom|iso2|mp4|avc1|M4V|qt {2})|\x1aE\xdf\xa3|RIFF[^]{4}AVI )/],
];

/** What to do about a format that is not read. */
const CONVERT = "Convert it to JPEG or PNG first";

/** The format of bytes that need a decoder of their own; undefined for all others. Throws QEDIT_E_IMAGE, by its name, for one that is not read. */
export function foreignFormat(bytes: Buffer, name: string): ForeignFormat | undefined {
  if (isJxl(bytes)) return "JPEG XL";
  if (isBmp(bytes)) return "BMP";
  const start = bytes.toString("latin1", 0, 16);
  const refused = REFUSED.find(([, pattern]) => pattern.test(start))?.[0];
  if (refused !== undefined)
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${name}: it is ${refused}, which is not supported`, {
      hint: CONVERT,
    });
  return undefined;
}

/** Width and height as shown, from the header. Throws an Error for one that cannot be. */
export function foreignSize(bytes: Buffer, format: ForeignFormat): Size {
  return format === "BMP" ? bmpSize(bytes) : jxlSize(bytes);
}
