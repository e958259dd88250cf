// The folder that clients and workers share: files under their SHA-256, and the results that were made, under what determines them.
import { createHash } from "node:crypto";
import { readFile, realpath, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as v from "valibot";
import { QeditError } from "../../std/errors.js";
import { ioFailure, makeFolders, readBounded, writeFileAtomically } from "../../std/files.js";
import type { Reference, RunResult, SentPicture } from "./kafka-messages.js";

/** Bytes of the pictures that stand in a message themselves, all together. */
const INLINE = 256 * 1024;

/** Bytes of a record; those of an edit take some kilobytes. */
const MOST_BESIDE = 4 * 1024 ** 2;

const resultSchema = v.object({
  ...{ sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)), type: v.string(), device: v.string() },
  ...{ bytes: v.number(), width: v.number(), height: v.number(), seed: v.string() },
  ...{ drift: v.nullable(v.string()), seconds: v.record(v.string(), v.number()), recipe: v.string() },
});

/** A result whose picture is in the store. */
export type StoredResult = Omit<RunResult, "picture">;

/** The store. Its methods throw QEDIT_E_IO when the folder cannot be read or written. */
export class ClaimStore {
  constructor(
    private readonly folder: string,
    private readonly mostBytes: number,
  ) {}

  /** Stores bytes under their hash. */
  async put(bytes: Uint8Array): Promise<Reference> {
    const sha256 = hashOf(bytes);
    const path = this.#object(sha256);
    const there = await stat(path).catch(() => undefined);
    if (there?.size !== bytes.length || hashOf(await readFile(path)) !== sha256) await writeFileAtomically(path, bytes);
    return { uri: pathToFileURL(path).href, sha256, size: bytes.length };
  }

  /** Pictures as they go into a message: inside it while they are small, else by reference. */
  async pack<Picture extends { readonly name: string; readonly bytes: Uint8Array }>(
    pictures: readonly Picture[],
  ): Promise<SentPicture[]> {
    let room = INLINE;
    const packed: SentPicture[] = [];
    for (const { name, bytes } of pictures) {
      const isInline = bytes.length <= room;
      if (isInline) room -= bytes.length;
      packed.push({ name, data: isInline ? Buffer.from(bytes) : await this.put(bytes) });
    }
    return packed;
  }

  /** The bytes of a picture in a message. Throws QEDIT_E_IMAGE for a reference that leads out of the store or to other bytes. */
  async unpack({ name, data }: SentPicture): Promise<Uint8Array> {
    if (data instanceof Uint8Array) return data;
    const { uri, sha256, size } = data;
    if (size > this.mostBytes) throw refused(name, `it has ${size} bytes, at most ${this.mostBytes} are taken`);
    const bytes = await readBounded(await this.#confined(name, uri), this.mostBytes).catch((error: unknown) => {
      throw ioFailure("read", name, error);
    });
    if (bytes.length !== size) throw refused(name, `${uri} has ${bytes.length} bytes, wanted ${size}`);
    const found = hashOf(bytes);
    if (found !== sha256) throw refused(name, `the SHA-256 of ${uri} is ${found}, wanted ${sha256}`);
    return bytes;
  }

  /** The result of what has this content, if it was made and its picture is whole. */
  async find(content: string): Promise<StoredResult | undefined> {
    const text = await readFile(this.#result(content), "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw ioFailure("read", this.#result(content), error);
    });
    const result = parsed(text);
    if (result === undefined) return undefined;
    const bytes = await readFile(this.#object(result.sha256)).catch(() => undefined);
    return bytes !== undefined && hashOf(bytes) === result.sha256 ? result : undefined;
  }

  /** Keeps a result and its picture. The first one that is kept stays, for others may have answered with it: gives the one that holds. */
  async keep(content: string, result: StoredResult, picture: Uint8Array): Promise<StoredResult> {
    await this.put(picture);
    const bytes = Buffer.from(JSON.stringify(result));
    const isDamaged =
      (await this.find(content)) === undefined && (await stat(this.#result(content)).catch(() => undefined));
    try {
      await writeFileAtomically(this.#result(content), bytes, { overwrite: Boolean(isDamaged) });
    } catch (error) {
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_EXISTS") throw error;
    }
    return (await this.find(content)) ?? result;
  }

  /** The picture of a result, as it goes into a message. */
  async pictureOf({ sha256, type }: StoredResult, jobId: string): Promise<SentPicture> {
    const bytes = await readBounded(this.#object(sha256), this.mostBytes).catch((error: unknown) => {
      throw ioFailure("read", this.#object(sha256), error);
    });
    const name = `${jobId.replace(/[^\w.-]/g, "_")}.${type.split("/").at(-1)}`;
    return (await this.pack([{ name, bytes }]))[0]!;
  }

  /** A small file that lies beside the others, by a key such as `stages/ab/abcd.json`; undefined if there is none. */
  async readBeside(key: string): Promise<Uint8Array | undefined> {
    const path = join(resolve(this.folder), key);
    return readBounded(path, MOST_BESIDE).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw ioFailure("read", path, error);
    });
  }

  /** Writes such a file whole or not at all; false: it is there, and `overwrite` is false. */
  async writeBeside(key: string, bytes: Uint8Array, options: { readonly overwrite: boolean }): Promise<boolean> {
    try {
      await writeFileAtomically(join(resolve(this.folder), key), bytes, options);
      return true;
    } catch (error) {
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_EXISTS") throw error;
      return false;
    }
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
      throw refused(name, `"${uri.slice(0, 200)}" is no file:// of the store`);
    const path = resolve(written);
    const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"].includes(error.code ?? ""))
        throw refused(name, `${uri} is not there`);
      throw ioFailure("read", name, error);
    });
    const isInside = real.startsWith(`${root}${sep}`);
    if (!isInside || !(await stat(real)).isFile()) throw refused(name, `${uri} is no file of the store ${this.folder}`);
    return real;
  }

  #object(sha256: string): string {
    return join(resolve(this.folder), "objects", sha256.slice(0, 2), sha256);
  }

  #result(content: string): string {
    return join(resolve(this.folder), "results", content.slice(0, 2), `${content}.json`);
  }
}

function parsed(text: string): StoredResult | undefined {
  try {
    const { success, output } = v.safeParse(resultSchema, JSON.parse(text));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

function pathOf(uri: string): string | undefined {
  try {
    return fileURLToPath(uri);
  } catch {
    return undefined;
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function refused(name: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_IMAGE", `Cannot read ${name.slice(0, 200)}: ${reason}`, {
    hint: "Put the file into the store under its SHA-256, and name it by that path",
  });
}
