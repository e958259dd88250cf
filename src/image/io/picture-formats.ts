// Picture formats that are read, by their first bytes.

/** Bytes that tell a format. */
export const START_BYTES = 16;

/** Formats by the first bytes of a file as latin1. */
const STARTS: readonly (readonly [format: string, pattern: RegExp])[] = [
  ["png", /^\x89PNG\r\n\x1a\n/],
  ["jpeg", /^\xff\xd8\xff/],
  ["gif", /^GIF8[79]a/],
  ["webp", /^RIFF[^]{4}WEBP/],
  ["tiff", /^(II\*\0|MM\0\*|II\+\0|MM\0\+)/],
  ["heic", /^[^]{4}ftyp(hei[cxms]|hev[cxms])/],
  ["avif", /^[^]{4}ftyp(avif|avis|mif1|msf1)/],
  ["jxl", /^(\xff\x0a|\0\0\0\x0cJXL )/],
  ["bmp", /^BM[^]{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0/],
];

/** The format of a file by its first bytes, START_BYTES or fewer; undefined if it is not of a picture that is read. */
export function formatByStart(start: Uint8Array): string | undefined {
  const text = Buffer.from(start).toString("latin1");
  return STARTS.find(([, pattern]) => pattern.test(text))?.[0];
}
