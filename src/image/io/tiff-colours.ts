// How a TIFF stores colours, from its first folder: libvips takes samples of kinds that it does not know for red, green and blue.
// TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, BigTIFF: http://bigtiff.org

const COMPRESSION = 259;
const PHOTOMETRIC = 262;
const JPEG = 7;
const YCBCR = 6;
/** Grey either way, RGB, palette and CMYK. */
const CONVERTED = [0, 1, 2, 3, 5];
const NAMES: Readonly<Record<number, string>> = {
  4: "a transparency mask",
  6: "YCbCr",
  8: "CIE L*a*b*",
  9: "ICC L*a*b*",
  10: "ITU L*a*b*",
  32803: "a camera's colour filter array",
  32844: "CIE Log2(L)",
  32845: "CIE Log2(L) (u',v')",
  34892: "a camera's linear samples",
};
/** Entries of a folder that are looked at. */
const MOST_ENTRIES = 500;
const SHORT = 3;

/** What the colours of a TIFF are that are not converted; undefined for those that are, and for other files. JPEG's decoder converts its own YCbCr. */
export function foreignColours(tiff: Buffer): string | undefined {
  const tags = firstFolder(tiff);
  const photometric = tags?.get(PHOTOMETRIC);
  if (photometric === undefined || CONVERTED.includes(photometric)) return undefined;
  if (photometric === YCBCR && tags?.get(COMPRESSION) === JPEG) return undefined;
  return NAMES[photometric] ?? `of kind ${photometric}`;
}

// Single values of 16 bits by their tags; undefined where this is no TIFF. What points beyond the file is left out.
function firstFolder(tiff: Buffer): ReadonlyMap<number, number> | undefined {
  const order = tiff.toString("latin1", 0, 2);
  if (tiff.length < 16 || (order !== "II" && order !== "MM")) return undefined;
  const isLittle = order === "II";
  const u16 = (at: number) => (isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const u32 = (at: number) => (isLittle ? tiff.readUInt32LE(at) : tiff.readUInt32BE(at));
  const u64 = (at: number) => Number(isLittle ? tiff.readBigUInt64LE(at) : tiff.readBigUInt64BE(at));
  const isBig = u16(2) === 43;
  if (!isBig && u16(2) !== 42) return undefined;
  const folder = isBig ? u64(8) : u32(4);
  const [countBytes, entryBytes, valueAt] = isBig ? [8, 20, 12] : [2, 12, 8];
  const tags = new Map<number, number>();
  if (folder + countBytes > tiff.length) return tags;
  const count = Math.min(isBig ? u64(folder) : u16(folder), MOST_ENTRIES);
  for (let i = 0, at = folder + countBytes; i < count && at + entryBytes <= tiff.length; i++, at += entryBytes)
    if (u16(at + 2) === SHORT) tags.set(u16(at), u16(at + valueAt));
  return tags;
}
