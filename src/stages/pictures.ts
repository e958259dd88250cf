// Pictures as stages take them: decoded, named, and hashed as the file was.
import { fileHash } from "../artifacts/hash.js";
import type { Image } from "../image/image.js";
import type { Source } from "../image/plan.js";
import { readImage } from "../image/read.js";

/** A decoded picture with its name for messages and the SHA-256 of its file. */
export interface Picture {
  readonly name: string;
  readonly image: Image;
  readonly hash: string;
}

/** Reads pictures in order; throws QEDIT_E_IMAGE for the first that cannot be used. */
export async function readPictures(paths: readonly string[]): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const path of paths) {
    const image = await readImage(path);
    pictures.push({ name: path, image, hash: await fileHash(path) });
  }
  return pictures;
}

/** What the size plan wants to know of a picture. */
export function sourceOf({ name, image }: Picture): Source {
  return { name, width: image.width, height: image.height };
}

/** Hashes of pictures by role, for records: `image.1`, `image.2`, …, counted as prompts count them. */
export function pictureHashes(pictures: readonly Picture[]): Record<string, string> {
  return Object.fromEntries(pictures.map(({ hash }, index) => [`image.${index + 1}`, hash]));
}
