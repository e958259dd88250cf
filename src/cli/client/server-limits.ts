// Whether a server takes an edit, by the limits that it names. A server that was only found must not refuse what is made here as well.
import { stat } from "node:fs/promises";
import type { UnresolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { withNumbers } from "../../edit/resolve/resolve-edit.js";
import { readSize } from "../../image/io/read.js";
import { STREAM } from "../io.js";
import type { StatusAnswer } from "./server-answers.js";

/** Bytes of a file from which a picture may have more pixels than a server takes; smaller ones are not looked into. */
const LARGE_FILE = 4e6;
/** Bytes of a request for each of its files, which are written in base64. */
const BASE64 = 4 / 3;
const MEGAPIXEL = 1024 ** 2;

/** What of an edit is above the limits; undefined: nothing, as far as that can be told before it is sent. */
export async function aboveLimits(
  paths: readonly string[],
  settings: UnresolvedSettings,
  { limits }: StatusAnswer,
): Promise<string | undefined> {
  const { steps, megapixels, size } = withNumbers(settings);
  const pixels = Math.max(megapixels ?? 0, size === undefined ? 0 : (size.width * size.height) / MEGAPIXEL);
  if (steps > limits.steps) return `it takes ${limits.steps} steps at most`;
  if (pixels > limits.megapixels) return `it makes ${limits.megapixels} megapixels at most`;
  const { mask, prompt, negativePrompt = "" } = settings;
  if (Math.max(prompt.length, negativePrompt.length) > limits.prompt)
    return `it takes prompts of ${limits.prompt} characters at most`;
  if (paths.length > limits.pictures) return `it takes ${limits.pictures} pictures at most`;
  const files = [...paths, ...(mask === undefined ? [] : [mask])].filter((path) => path !== STREAM);
  let bytes = 0;
  for (const path of files) {
    // One that is not there is refused where it is read.
    const { size: length } = await stat(path).catch(() => ({ size: 0 }));
    bytes += length;
    if (length < LARGE_FILE) continue;
    const { width, height } = await readSize(path).catch(() => ({ width: 0, height: 0 }));
    if (width * height > limits.pictureMegapixels * MEGAPIXEL)
      return `it takes pictures of ${limits.pictureMegapixels} megapixels at most`;
  }
  return bytes * BASE64 > limits.body * 0.99 ? `it takes requests of ${limits.body} bytes at most` : undefined;
}
