// What became of the jobs of a batch, a line of JSON each, appended and flushed as it happens: what is told survives a kill or a power cut.
// A result is announced with its hash before its file is renamed into place, and confirmed after: between the two the file itself tells.
import { open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { ioFailure, makeFolders } from "../../std/files.js";

/** One thing that happened to a job. */
export interface JournalEntry {
  /** Absolute path of the result; undefined for a line that was no job. */
  readonly output: string | undefined;
  /** Line of the jobs file, from 1. */
  readonly line: number;
  /** Hash of everything that decides the result. */
  readonly content: string | undefined;
  readonly state: "writing" | "done" | "failed";
  /** SHA-256 of the result. */
  readonly hash?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

/** The journal of one batch. */
export interface Journal {
  /** The last result that was made, or begun to be written, at an absolute path. */
  readonly made: (output: string) => JournalEntry | undefined;
  /** The hashes of all results that were ever written, or begun to be, at an absolute path. */
  readonly hashes: (output: string) => ReadonlySet<string>;
  /** Whether a job failed when it was last run: the one of that output, else whatever stood in that line. */
  readonly hasFailed: (output: string | undefined, line: number) => boolean;
  readonly append: (entry: JournalEntry) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Opens the journal at a path, which need not exist. Throws QEDIT_E_IO. */
export async function openJournal(path: string): Promise<Journal> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw ioFailure("read", path, error);
  });
  const made = new Map<string, JournalEntry>();
  const last = new Map<string | undefined, JournalEntry>();
  const lines = new Map<number, JournalEntry>();
  const hashes = new Map<string, Set<string>>();
  const learn = (entry: JournalEntry) => {
    if (entry.output !== undefined && entry.hash !== undefined)
      hashes.set(entry.output, (hashes.get(entry.output) ?? new Set()).add(entry.hash));
    if (entry.output !== undefined) last.set(entry.output, entry);
    if (entry.output !== undefined && entry.state !== "failed") made.set(entry.output, entry);
    lines.set(entry.line, entry);
  };
  for (const line of text.split("\n")) {
    const entry = entryOf(line);
    if (entry) learn(entry);
  }
  const file = await openToAppend(path);
  // A killed process may have left half a line, which must not spoil the next one.
  let isTorn = text !== "" && !text.endsWith("\n");
  return {
    made: (output) => made.get(output),
    hashes: (output) => hashes.get(output) ?? new Set(),
    hasFailed: (output, line) => (last.get(output) ?? lines.get(line))?.state === "failed",
    async append(entry) {
      learn(entry);
      try {
        await file.appendFile(`${isTorn ? "\n" : ""}${JSON.stringify({ ...entry, at: new Date().toISOString() })}\n`);
        await file.datasync();
      } catch (error) {
        throw ioFailure("write", path, error);
      }
      isTorn = false;
    },
    close: () => file.close(),
  };
}

async function openToAppend(path: string) {
  try {
    await makeFolders(dirname(path));
    return await open(path, "a");
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

function entryOf(line: string): JournalEntry | undefined {
  try {
    const entry = JSON.parse(line) as Partial<JournalEntry> | null;
    const isEntry = typeof entry?.line === "number" && ["writing", "done", "failed"].includes(entry.state ?? "");
    return isEntry ? (entry as JournalEntry) : undefined;
  } catch {
    return undefined;
  }
}
