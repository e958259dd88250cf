// Pictures as stages take them: decoded, named, and hashed as the file was.
import { basename } from "node:path";
import type { Image } from "../image/image.js";
import { readImage } from "../image/io/read.js";
import type { Source } from "../image/resize/size-plan.js";
import { fileHash } from "../std/file-hash.js";

/** A decoded picture with its name for messages and the SHA-256 of its file. */
export interface Picture {
  readonly name: string;
  readonly image: Image;
  readonly hash: string;
}

/** A picture file: its path, or its bytes with a name for messages. */
export type PictureSource = string | { readonly name: string; readonly bytes: Uint8Array };

/** Reads pictures in order; throws QEDIT_E_IMAGE for the first that cannot be used. */
export async function readPictures(sources: readonly PictureSource[]): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const source of sources) {
    const name = typeof source === "string" ? source : source.name;
    const file = typeof source === "string" ? source : source.bytes;
    pictures.push({ name, image: await readImage(file, name), hash: await fileHash(file) });
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

/** Names of the files of pictures, without their folders, by the same roles. */
export function pictureNames(pictures: readonly Picture[]): Record<string, string> {
  return Object.fromEntries(pictures.map(({ name }, index) => [`image.${index + 1}`, basename(name)]));
}
