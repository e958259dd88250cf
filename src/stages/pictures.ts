// Input pictures of stages: decoded, with a name and the hash of their file.
import { basename } from "node:path";
import { withAlpha } from "../image/alpha.js";
import type { Image } from "../image/image.js";
import { type ReadPicture, readPicture } from "../image/io/read.js";
import type { Source } from "../image/resize/size-plan.js";
import type { Emit } from "../std/events.js";
import { fileHash } from "../std/file-hash.js";

/** A decoded picture with its name for messages and the SHA-256 of its file. */
export interface Picture extends ReadPicture {
  readonly name: string;
  readonly hash: string;
  /** The file, by its path or its bytes; undefined where only its size is known. */
  readonly file?: string | Uint8Array;
}

/** A picture file: its path, or its bytes with a name for messages. */
export type PictureSource = string | { readonly name: string; readonly bytes: Uint8Array };

/** Reads pictures in order; throws QEDIT_E_IMAGE for the first that cannot be used. */
export async function readPictures(sources: readonly PictureSource[]): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const source of sources) {
    const name = typeof source === "string" ? source : source.name;
    const file = typeof source === "string" ? source : source.bytes;
    pictures.push({ name, ...(await readPicture(file, name)), hash: await fileHash(file), file });
  }
  return pictures;
}

/** The pixels that an edit works with: in sRGB, or where another tool's numbers are wanted (`match`) as stored, for its reader ignores profiles. */
export function pixelsOf({ image, profile }: Picture, { match: tool }: { readonly match: string | undefined }): Image {
  return tool !== undefined && profile !== undefined && "unconverted" in profile ? profile.unconverted : image;
}

/** The same pixels with the picture's transparency: 4 channels, opaque where it has none. */
export function pixelsWithAlpha(picture: Picture, settings: { readonly match: string | undefined }): Image {
  return withAlpha(pixelsOf(picture, settings), picture.alpha);
}

/** Emits what became of the colour profiles of pictures, a line each. */
export function announceProfiles(
  pictures: readonly Picture[],
  { match: tool }: { readonly match: string | undefined },
  emit: Emit,
): void {
  for (const { name, profile } of pictures) {
    if (profile === undefined) continue;
    const called = profile.name === "" ? "" : ` ${profile.name}`;
    if ("fault" in profile)
      emit({
        kind: "warning",
        text: `${name}: its colour profile${called} cannot be used (${profile.fault}), read as sRGB`,
      });
    else if (tool === undefined)
      emit({ kind: "note", text: `${name}: colours converted from${called || " its profile"} to sRGB` });
    else
      emit({
        kind: "warning",
        text: `${name}: its colour profile${called} is ignored, as ${tool}'s reader does: colours will be off`,
      });
  }
}

/** For records: the profiles that pictures were converted from, by role; empty where none was. */
export function pictureProfiles(
  pictures: readonly Picture[],
  { match: tool }: { readonly match: string | undefined },
): { readonly profiles?: Readonly<Record<string, string>> } {
  if (tool !== undefined) return {};
  const converted = pictures.flatMap(({ profile }, index) =>
    profile !== undefined && "unconverted" in profile ? [[`image.${index + 1}`, profile.name] as const] : [],
  );
  return converted.length === 0 ? {} : { profiles: Object.fromEntries(converted) };
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
