// Colours that a file declares without a profile: by numbers (PNG's cICP, gAMA and cHRM, the nclx box of HEIC and AVIF), or in a camera's EXIF, which
// says Adobe RGB by its interoperability index. https://www.w3.org/TR/png-3/#11cICP, ITU-T H.273 (8.1, 8.2), DCF 2.0
import { cameraExif, interoperabilityIndex } from "./camera-exif.js";
import { heifBox } from "./heif-exif.js";
import { matrixProfile, type Primaries } from "./matrix-profile.js";

/** A profile of the colours, or why there is none. */
export type DeclaredColours = { readonly icc: Buffer } | { readonly name: string; readonly fault: string };

const D65 = [0.3127, 0.329] as const;

/** Red, green and blue by ITU-T H.273's numbers; 1 is sRGB's. */
const PRIMARIES: Readonly<Record<number, { readonly name: string; readonly primaries: Primaries }>> = {
  1: { name: "BT.709", primaries: [[0.64, 0.33], [0.3, 0.6], [0.15, 0.06], D65] },
  9: { name: "BT.2020", primaries: [[0.708, 0.292], [0.17, 0.797], [0.131, 0.046], D65] },
  12: { name: "Display P3", primaries: [[0.68, 0.32], [0.265, 0.69], [0.15, 0.06], D65] },
};

/** Curves by H.273's numbers, as gamma; 0 is sRGB's own, which still pictures of the video curves have too. */
const GAMMAS: Readonly<Record<number, number>> = { 1: 0, 4: 2.2, 5: 2.8, 6: 0, 8: 1, 13: 0, 14: 0, 15: 0 };
const HDR: Readonly<Record<number, string>> = { 16: "PQ", 18: "HLG" };

const ADOBE: Primaries = [[0.64, 0.33], [0.21, 0.71], [0.15, 0.06], D65];
const ADOBE_GAMMA = 563 / 256;

/** gAMA and cHRM of sRGB by the PNG standard, in their units of 1/100000. */
const SRGB_CHUNKS = { gamma: 45455, chromaticities: [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000] };
const UNITS = 100_000;

/** The colours that a file without a profile declares; undefined for sRGB, and where nothing is said. Never throws. */
export function declaredColours(bytes: Buffer): DeclaredColours | undefined {
  const isPng = bytes.toString("latin1", 1, 4) === "PNG";
  const byNumbers = isPng
    ? pngColours(bytes)
    : bytes.toString("latin1", 4, 8) === "ftyp"
      ? heifColours(bytes)
      : undefined;
  if (byNumbers !== undefined) return byNumbers;
  const exif = cameraExif(bytes);
  return exif !== undefined && interoperabilityIndex(exif) === "R03"
    ? { icc: matrixProfile("Adobe RGB", ADOBE, ADOBE_GAMMA) }
    : undefined;
}

function numbered(primaries: number, transfer: number): DeclaredColours | undefined {
  const hdr = HDR[transfer];
  if (hdr !== undefined) return { name: hdr, fault: "its range is high (HDR), which is not supported" };
  const [found, gamma] = [PRIMARIES[primaries], GAMMAS[transfer]];
  if (found === undefined || gamma === undefined || (primaries === 1 && gamma === 0)) return undefined;
  return { icc: matrixProfile(found.name, found.primaries, gamma) };
}

function pngColours(bytes: Buffer): DeclaredColours | undefined {
  const chunks = new Map<string, Buffer>();
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + bytes.readUInt32BE(at);
    const type = bytes.toString("latin1", at + 4, at + 8);
    if (end > bytes.length || type === "IDAT") break;
    if (["cICP", "sRGB", "gAMA", "cHRM"].includes(type)) chunks.set(type, bytes.subarray(at + 8, end - 4));
    at = end;
  }
  const cicp = chunks.get("cICP");
  if (cicp !== undefined && cicp.length >= 4) return numbered(cicp[0]!, cicp[1]!);
  const [gama, chrm] = [chunks.get("gAMA"), chunks.get("cHRM")];
  // Alone, neither says what the colours are; sRGB counts before them.
  if (chunks.has("sRGB") || gama?.length !== 4 || chrm?.length !== 32) return undefined;
  const gamma = gama.readUInt32BE(0);
  const values = Array.from({ length: 8 }, (_, i) => chrm.readUInt32BE(i * 4));
  const isSrgb = gamma === SRGB_CHUNKS.gamma && values.every((value, i) => value === SRGB_CHUNKS.chromaticities[i]);
  if (isSrgb || gamma < UNITS / 10 || gamma > UNITS * 10) return undefined;
  const point = (i: number) => [values[i]! / UNITS, values[i + 1]! / UNITS] as const;
  const primaries: Primaries = [point(2), point(4), point(6), point(0)];
  return primaries.every(([x, y]) => y > 0.001 && x + y <= 1)
    ? { icc: matrixProfile("gAMA and cHRM", primaries, UNITS / gamma) }
    : undefined;
}

function heifColours(bytes: Buffer): DeclaredColours | undefined {
  const colours = heifBox(bytes, ["iprp", "ipco", "colr"]);
  if (colours === undefined || colours.length < 10 || colours.toString("latin1", 0, 4) !== "nclx") return undefined;
  return numbered(colours.readUInt16BE(4), colours.readUInt16BE(6));
}
