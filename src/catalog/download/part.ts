// An unfinished download: NAME.part, written in any order, and NAME.part.json, a journal of the ranges that are on the disk, from which the
// next download resumes.

import type { FileHandle } from "node:fs/promises";
import { open, readFile, rm, stat } from "node:fs/promises";
import * as v from "valibot";
import { ioFailure, writeFileAtomically } from "../../std/files.js";
import { type ByteRange, sizeOf, withRange } from "./ranges.js";

/** Interval of the journal, milliseconds: at most so much of a download is lost with the process or the power. */
const JOURNAL_EVERY = 500;
/** On slow disks the interval is longer: flushing takes at most this share of the time, up to this interval, milliseconds. */
const [FLUSHING_SHARE, JOURNAL_AT_LEAST] = [0.1, 5000];

/** Which version of a file a server has, as far as it says. */
export interface Version {
  readonly etag?: string | undefined;
  /** The SHA-256 that the hub states, hexadecimal. */
  readonly sha256?: string | undefined;
}

/** What a part holds, as its journal says. */
interface Journal extends Version {
  readonly bytes: number;
  readonly done: readonly ByteRange[];
}

/** A file that is being downloaded. */
export class Part {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #bytes: number;
  #version: Version;
  #done: readonly ByteRange[];
  #nextJournal = 0;

  private constructor(path: string, handle: FileHandle, { bytes, etag, sha256, done }: Journal) {
    this.path = path;
    this.#handle = handle;
    this.#bytes = bytes;
    this.#version = { etag, sha256 };
    this.#done = done;
  }

  /** Opens the part of a file of so many bytes, resuming from its journal if that is of the same length. Throws QEDIT_E_IO. */
  static async open(target: string, bytes: number): Promise<Part> {
    const path = `${target}.part`;
    try {
      const journal = await readJournal(path, bytes);
      // A part without a valid journal starts over.
      const handle = await open(path, journal.done.length > 0 ? "r+" : "w+");
      return new Part(path, handle, journal);
    } catch (error) {
      throw ioFailure("write", path, error);
    }
  }

  /** Whether the bytes that are there are of this version of the file; if not, they are dropped. The version counts from now on. */
  accept({ etag, sha256 }: Version): boolean {
    const before = this.#version.etag;
    const isOther = etag !== undefined && before !== undefined && etag !== before && this.#done.length > 0;
    this.#version = { etag: etag ?? before, sha256: sha256 ?? (isOther ? undefined : this.#version.sha256) };
    if (isOther) this.#done = [];
    return !isOther;
  }

  /** Whether the server named its version of the file. */
  get hasVersion(): boolean {
    return this.#version.etag !== undefined;
  }

  /** The SHA-256 that the hub states of the file, if it does. */
  get stated(): string | undefined {
    return this.#version.sha256;
  }

  /** The ranges that are there. */
  get done(): readonly ByteRange[] {
    return this.#done;
  }

  /** Writes bytes at a position. Throws QEDIT_E_IO, as when the disk is full. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, at, bytes.length - at, position + at);
        at += bytesWritten;
      }
    } catch (error) {
      throw ioFailure("write", this.path, error);
    }
    this.#done = withRange(this.#done, { start: position, end: position + bytes.length });
    if (Date.now() >= this.#nextJournal) await this.journal();
  }

  /** Drops what is there, for servers without ranges. */
  async restart(): Promise<void> {
    this.#done = [];
    await this.journal();
  }

  /** Flushes the part, then writes the journal. Throws QEDIT_E_IO. */
  async journal(): Promise<void> {
    const start = Date.now();
    // Other connections write at the same time: only one journals.
    this.#nextJournal = Infinity;
    const done = this.#done;
    try {
      await this.#handle.datasync();
      await writeFileAtomically(
        journalOf(this.path),
        new TextEncoder().encode(
          `${JSON.stringify({ bytes: this.#bytes, ...this.#version, done } satisfies Journal)}\n`,
        ),
      );
    } catch (error) {
      throw ioFailure("write", this.path, error);
    } finally {
      this.#nextJournal =
        Date.now() + Math.min(JOURNAL_AT_LEAST, Math.max(JOURNAL_EVERY, (Date.now() - start) / FLUSHING_SHARE));
    }
  }

  /** Closes the file; the part stays. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Bytes of a file that an interrupted download left; 0 when there are none. */
export async function bytesLeft(target: string, bytes: number): Promise<number> {
  return sizeOf((await readJournal(`${target}.part`, bytes)).done);
}

/** Whether there is a part of a file, or its journal. */
export async function hasPart(target: string): Promise<boolean> {
  const found = await Promise.all(
    [`${target}.part`, journalOf(`${target}.part`)].map((path) => stat(path).catch(() => undefined)),
  );
  return found.some((each) => each !== undefined);
}

/** Removes the part of a file and its journal. */
export async function removePart(target: string): Promise<void> {
  await rm(`${target}.part`, { force: true });
  await rm(journalOf(`${target}.part`), { force: true });
}

function journalOf(part: string): string {
  return `${part}.json`;
}

async function readJournal(part: string, bytes: number): Promise<Journal> {
  const written = await readFile(journalOf(part), "utf8").catch(() => "");
  const size = await stat(part).then(
    (found) => found.size,
    () => 0,
  );
  const journal = parsed(written);
  const fits =
    journal !== undefined && journal.bytes === bytes && journal.done.every(({ end }) => end <= Math.min(size, bytes));
  return fits ? journal : { bytes, done: [] };
}

const position = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const journalSchema: v.GenericSchema<unknown, Journal> = v.object({
  bytes: position,
  etag: v.optional(v.string()),
  sha256: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))),
  done: v.array(
    v.pipe(
      v.object({ start: position, end: position }),
      v.check(({ start, end }) => start < end),
    ),
  ),
});

function parsed(written: string): Journal | undefined {
  try {
    const { success, output } = v.safeParse(journalSchema, JSON.parse(written), { abortEarly: true });
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}
