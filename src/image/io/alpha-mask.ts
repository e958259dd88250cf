// Masks as OpenAI's image API has them: transparent where the edit belongs. Ours are white there.
import type { Sharp } from "sharp";
import { QeditError } from "../../std/errors.js";
import { loadSharp } from "./load-sharp.js";
import { readSize } from "./read.js";

/** The alpha channel of a picture, inverted, as a grey PNG: white where it was transparent. Throws QEDIT_E_IMAGE for a picture that is opaque. */
export async function maskOfAlpha(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  // Refuses what is too large or no picture before its pixels are decoded.
  await readSize(bytes, name);
  const sharp = loadSharp();
  const open = (): Sharp => sharp(bytes, { failOn: "error" }).autoOrient();
  const fault = (reason: string, cause?: unknown) =>
    new QeditError("QEDIT_E_IMAGE", `Cannot use ${name} as mask: ${reason}`, {
      hint: "Send a PNG that is transparent where the edit belongs",
      parameter: "mask",
      cause,
    });
  // Of every pixel: sharp says so of a picture without an alpha channel too.
  const { isOpaque } = await sharp(bytes, { failOn: "error" })
    .stats()
    .catch((cause: unknown) => {
      throw fault("it cannot be decoded", cause);
    });
  if (isOpaque) throw fault("it is opaque everywhere");
  return open()
    .ensureAlpha()
    .extractChannel("alpha")
    .negate()
    .toColourspace("b-w")
    .png()
    .toBuffer()
    .catch((cause: unknown) => {
      throw fault("it cannot be decoded", cause);
    });
}
