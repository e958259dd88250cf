// The file of a finished picture, and what is said of it.
import { parseRecipe, recipeText } from "../artifacts/recipe.js";
import { driftRecord } from "../edit/finish/drift-text.js";
import type { FinishedPicture } from "../edit/finish/finish.js";
import { MIME_TYPES, type PictureEncoding } from "../edit/finish/picture-encoding.js";
import { encodeDecoded, encodedInfo } from "../stages/decode.js";
import { fileHash } from "../std/file-hash.js";
import type { JobResult } from "./job-types.js";

/** What the picture itself does not say. */
interface Making extends Pick<JobResult, "seed" | "device" | "seconds"> {
  readonly encoding: PictureEncoding;
}

/** Encodes a picture. */
export async function pictureResult(
  picture: FinishedPicture,
  { encoding, ...making }: Making,
): Promise<{ readonly bytes: Uint8Array; readonly result: JobResult }> {
  const bytes = await encodeDecoded(picture, encoding);
  const { width, height } = picture.image;
  const result = {
    ...{ sha256: await fileHash(bytes), type: MIME_TYPES[encoding.format], bytes: bytes.length, width, height },
    ...making,
    drift: driftRecord(picture.drift),
    recipe: parseRecipe(recipeText(encodedInfo(picture.info, encoding)))!,
  };
  return { bytes, result };
}
