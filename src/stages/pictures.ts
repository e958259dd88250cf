// Input pictures of stages: decoded, with a name and the hash of their file.
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

/** A picture's name and size, for the size plan. */
export function sourceOf({ name, image }: Picture): Source {
  return { name, width: image.width, height: image.height };
}

/** Hashes of pictures by role, for records: `image.1`, `image.2`, …, numbered as in prompts. */
export function pictureHashes(pictures: readonly Picture[]): Record<string, string> {
  return Object.fromEntries(pictures.map(({ hash }, index) => [`image.${index + 1}`, hash]));
}

/** File names of pictures, without folders, by the same roles. */
export function pictureNames(pictures: readonly Picture[]): Record<string, string> {
  return Object.fromEntries(pictures.map(({ name }, index) => [`image.${index + 1}`, basename(name)]));
}
