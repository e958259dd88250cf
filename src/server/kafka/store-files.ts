// Where the store of clients and workers has its files: a folder that they share, or a bucket of S3.
import { createHash } from "node:crypto";
import { readFile, realpath, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { QeditError } from "../../std/errors.js";
import { ioFailure, makeFolders, readBounded, writeFileAtomically } from "../../std/files.js";

/** Files by keys such as `objects/ab/abcd`. Its methods throw QEDIT_E_IO when they cannot be read or written. */
export interface StoreFiles {
  readonly uriOf: (key: string) => string;
  /** The bytes of a file; undefined if there is none. Throws QEDIT_E_IO if it has more than `most`. */
  readonly read: (key: string, most: number) => Promise<Uint8Array | undefined>;
  /** The bytes of a URI that came in a message, which is not trusted. Throws QEDIT_E_IMAGE, by `name`, if it is none of the store's. */
  readonly readUri: (name: string, uri: string, most: number) => Promise<Uint8Array>;
  /** Whether a file has bytes of this SHA-256; false may also mean that this is not known. */
  readonly has: (key: string, sha256: string, size: number) => Promise<boolean>;
  /** Writes a file whole or not at all; false: it is there, and `overwrite` is false. */
  readonly write: (key: string, bytes: Uint8Array, options: { readonly overwrite: boolean }) => Promise<boolean>;
}

/** Opens a store by the folder's path or `s3://BUCKET/PREFIX`. Throws QEDIT_E_USAGE for a bucket that cannot be used. */
export async function openStoreFiles(location: string): Promise<StoreFiles> {
  if (!/^s3:/i.test(location)) return new FolderFiles(location);
  const { openBucket } = await import("./store-bucket.js");
  return openBucket(location);
}

/** SHA-256 in hexadecimal digits. */
export function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A file of a message that is not taken. */
export function refusedFile(name: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_IMAGE", `Cannot read ${name.slice(0, 200)}: ${reason}`, {
    hint: "Put the file into the store under its SHA-256, and name it by that path",
  });
}

/** A folder. */
export class FolderFiles implements StoreFiles {
  constructor(private readonly folder: string) {}

  uriOf(key: string): string {
    return pathToFileURL(this.#path(key)).href;
  }

  async read(key: string, most: number): Promise<Uint8Array | undefined> {
    const path = this.#path(key);
    return readBounded(path, most).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw ioFailure("read", path, error);
    });
  }

  async readUri(name: string, uri: string, most: number): Promise<Uint8Array> {
    return readBounded(await this.#confined(name, uri), most).catch((error: unknown) => {
      throw ioFailure("read", name, error);
    });
  }

  async has(key: string, sha256: string, size: number): Promise<boolean> {
    const path = this.#path(key);
    const there = await stat(path).catch(() => undefined);
    if (there?.size !== size) return false;
    // It may be removed at this moment.
    const bytes = await readFile(path).catch(() => undefined);
    return bytes !== undefined && hashOf(bytes) === sha256;
  }

  async write(key: string, bytes: Uint8Array, options: { readonly overwrite: boolean }): Promise<boolean> {
    try {
      await writeFileAtomically(this.#path(key), bytes, options);
      return true;
    } catch (error) {
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_EXISTS") throw error;
      return false;
    }
  }

  #path(key: string): string {
    return join(resolve(this.folder), ...key.split("/"));
  }

  // The real path of a file in the store, by the URI of a message.
  async #confined(name: string, uri: string): Promise<string> {
    // Whoever has no store yet has no files either.
    await makeFolders(this.folder).catch((error: unknown) => {
      throw ioFailure("write", this.folder, error);
    });
    const root = await realpath(this.folder).catch((error: unknown) => {
      throw ioFailure("read", this.folder, error);
    });
    const written = pathOf(uri);
    if (written === undefined || /(^|\/)(\.|%2e){2}(\/|$)/i.test(uri))
      throw refusedFile(name, `"${uri.slice(0, 200)}" is no file:// of the store`);
    const path = resolve(written);
    const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"].includes(error.code ?? ""))
        throw refusedFile(name, `${uri.slice(0, 200)} is not there`);
      throw ioFailure("read", name, error);
    });
    const isInside = real.startsWith(`${root}${sep}`);
    if (!isInside || !(await stat(real)).isFile())
      throw refusedFile(name, `${uri} is no file of the store ${this.folder}`);
    return real;
  }
}

function pathOf(uri: string): string | undefined {
  try {
    return fileURLToPath(uri);
  } catch {
    return undefined;
  }
}
