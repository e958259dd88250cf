// Pictures of many jobs: read when they are wanted, and not read again while they fit into a little memory.
import { type Picture, readPictures } from "../../stages/pictures.js";

/** Decoded pictures of this many bytes stay: a few of the largest cameras. */
const LIMIT = 256 * 1024 ** 2;

/** Reads picture files by path. */
export type ReadPictures = (paths: readonly string[]) => Promise<readonly Picture[]>;

/** A reader that remembers the pictures it read last. */
export function pictureMemory(limit = LIMIT): ReadPictures {
  const held = new Map<string, Picture>();
  const read = async (path: string): Promise<Picture> => {
    const picture = held.get(path) ?? (await readPictures([path]))[0]!;
    // The last one used comes last.
    held.delete(path);
    held.set(path, picture);
    let bytes = [...held.values()].reduce((sum, { image }) => sum + image.data.length, 0);
    for (const [oldest, { image }] of held) {
      if (bytes <= limit || oldest === path) break;
      held.delete(oldest);
      bytes -= image.data.length;
    }
    return picture;
  };
  return async (paths) => {
    const pictures: Picture[] = [];
    for (const path of paths) pictures.push(await read(path));
    return pictures;
  };
}
