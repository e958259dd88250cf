// What clients and workers share: files under their SHA-256, and the results that were made, under what determines them.
import * as v from "valibot";
import type { Reference, RunResult, SentPicture } from "./kafka-messages.js";
import { hashOf, refusedFile, type StoreFiles } from "./store-files.js";

/** Bytes of the pictures that stand in a message themselves, all together. */
const INLINE = 256 * 1024;

/** Bytes of a result without its picture, or of a record; those of an edit take some kilobytes. */
const MOST_BESIDE = 4 * 1024 ** 2;

const resultSchema = v.object({
  ...{ sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)), type: v.string(), device: v.string() },
  ...{ bytes: v.number(), width: v.number(), height: v.number(), seed: v.string() },
  ...{ drift: v.nullable(v.string()), seconds: v.record(v.string(), v.number()), recipe: v.string() },
});

/** A result whose picture is in the store. */
export type StoredResult = Omit<RunResult, "picture">;

/** The store. Its methods throw QEDIT_E_IO when it cannot be read or written. */
export class ClaimStore {
  constructor(
    private readonly files: StoreFiles,
    private readonly mostBytes: number,
  ) {}

  /** Stores bytes under their SHA-256, which may be known. */
  async put(bytes: Uint8Array, sha256 = hashOf(bytes)): Promise<Reference> {
    const key = objectKey(sha256);
    if (!(await this.files.has(key, sha256, bytes.length))) await this.files.write(key, bytes, { overwrite: true });
    return { uri: this.files.uriOf(key), sha256, size: bytes.length };
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
    return data instanceof Uint8Array ? data : this.fetch(name, data);
  }

  /** The bytes of a reference. Throws QEDIT_E_IMAGE, by `name`, if it leads out of the store or to other bytes. */
  async fetch(name: string, { uri, sha256, size }: Reference): Promise<Uint8Array> {
    if (size > this.mostBytes) throw refusedFile(name, `it has ${size} bytes, at most ${this.mostBytes} are taken`);
    const bytes = await this.files.readUri(name, uri, this.mostBytes);
    if (bytes.length !== size) throw refusedFile(name, `${uri} has ${bytes.length} bytes, wanted ${size}`);
    const found = hashOf(bytes);
    if (found !== sha256) throw refusedFile(name, `the SHA-256 of ${uri} is ${found}, wanted ${sha256}`);
    return bytes;
  }

  /** The result of what has this content, if it was made and its picture is whole. */
  async find(content: string): Promise<StoredResult | undefined> {
    const result = parsed(await this.files.read(resultKey(content), MOST_BESIDE));
    if (result === undefined) return undefined;
    const { sha256, bytes } = result;
    const isWhole = bytes <= this.mostBytes && (await this.#object(sha256)) !== undefined;
    return isWhole ? result : undefined;
  }

  /** Keeps a result and its picture. The first one that is kept stays, for others may have answered with it: gives the one that holds. */
  async keep(content: string, result: StoredResult, picture: Uint8Array): Promise<StoredResult> {
    await this.put(picture, result.sha256);
    const bytes = Buffer.from(JSON.stringify(result));
    const key = resultKey(content);
    const isNew = await this.files.write(key, bytes, { overwrite: false });
    if (isNew) return result;
    const found = await this.find(content);
    // What is there is damaged, or its picture is.
    if (found === undefined) await this.files.write(key, bytes, { overwrite: true });
    return found ?? result;
  }

  /** The picture of a result that was found or kept just now, as it goes into a message. */
  async pictureOf({ sha256, type, bytes: size }: StoredResult, jobId: string): Promise<SentPicture> {
    const name = `${jobId.replace(/[^\w.-]/g, "_")}.${type.split("/").at(-1)}`;
    if (size > INLINE) return { name, data: { uri: this.files.uriOf(objectKey(sha256)), sha256, size } };
    const bytes = await this.#object(sha256);
    if (bytes === undefined) throw refusedFile(name, `${this.files.uriOf(objectKey(sha256))} is no longer there`);
    return { name, data: Buffer.from(bytes) };
  }

  /** A small file that lies beside the others, by a key such as `stages/ab/abcd.json`; undefined if there is none. */
  readBeside(key: string): Promise<Uint8Array | undefined> {
    return this.files.read(key, MOST_BESIDE);
  }

  /** Writes such a file whole or not at all; false: it is there, and `overwrite` is false. */
  writeBeside(key: string, bytes: Uint8Array, options: { readonly overwrite: boolean }): Promise<boolean> {
    return this.files.write(key, bytes, options);
  }

  // The bytes under a hash; undefined if they are not there, or others.
  async #object(sha256: string): Promise<Uint8Array | undefined> {
    const bytes = await this.files.read(objectKey(sha256), this.mostBytes);
    return bytes !== undefined && hashOf(bytes) === sha256 ? bytes : undefined;
  }
}

function objectKey(sha256: string): string {
  return `objects/${sha256.slice(0, 2)}/${sha256}`;
}

function resultKey(content: string): string {
  return `results/${content.slice(0, 2)}/${content}.json`;
}

function parsed(bytes: Uint8Array | undefined): StoredResult | undefined {
  if (bytes === undefined) return undefined;
  try {
    const { success, output } = v.safeParse(resultSchema, JSON.parse(Buffer.from(bytes).toString("utf8")));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}
