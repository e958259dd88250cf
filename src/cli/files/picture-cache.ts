// An LRU cache of decoded pictures, for jobs with common pictures.
import { type Picture, readPictures } from "../../stages/pictures.js";

/** Limit of the cache, bytes: a few pictures of the largest cameras. */
const LIMIT = 256 * 1024 ** 2;

/** Reads picture files by path. */
export type ReadPictures = (paths: readonly string[]) => Promise<readonly Picture[]>;

/** A reader with an LRU cache of `limit` bytes. */
export function pictureCache(limit = LIMIT): ReadPictures {
  const cached = new Map<string, Picture>();
  const read = async (path: string): Promise<Picture> => {
    const picture = cached.get(path) ?? (await readPictures([path]))[0]!;
    // The most recently used comes last.
    cached.delete(path);
    cached.set(path, picture);
    let bytes = [...cached.values()].reduce((sum, { image }) => sum + image.data.length, 0);
    for (const [oldest, { image }] of cached) {
      if (bytes <= limit || oldest === path) break;
      cached.delete(oldest);
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
