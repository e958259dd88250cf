// Write-ahead journal of a batch: a line of JSON for each state of a job, appended and flushed, so that it survives a crash or power loss.
// An entry with the hash of the result is written before its file is renamed into place, and another after. If the second is missing, the hash of
// the file says whether it was written.
import { open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import * as v from "valibot";
import { QeditError } from "../../std/errors.js";
import { ioFailure, makeFolders, PRIVATE } from "../../std/files.js";

const entrySchema = v.object({
  /** Absolute path of the result; undefined for an invalid line. */
  output: v.optional(v.string()),
  /** Line of the jobs file, from 1. */
  line: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  /** Hash of everything that determines the result. */
  content: v.optional(v.string()),
  state: v.picklist(["writing", "done", "failed"]),
  /** SHA-256 of the result. */
  hash: v.optional(v.string()),
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
});

/** One state of a job. */
export type JournalEntry = Readonly<v.InferOutput<typeof entrySchema>>;

/** The journal of one batch. */
export interface Journal {
  /** The last entry "writing" or "done" of the result at an absolute path. */
  readonly made: (output: string) => JournalEntry | undefined;
  /** Hashes of all results that were written, or about to be, at an absolute path. */
  readonly hashes: (output: string) => ReadonlySet<string>;
  /** Whether a job failed in its last run; looked up by output, else by line. */
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
  const index = (entry: JournalEntry) => {
    if (entry.output !== undefined && entry.hash !== undefined)
      hashes.set(entry.output, (hashes.get(entry.output) ?? new Set()).add(entry.hash));
    if (entry.output !== undefined) last.set(entry.output, entry);
    if (entry.output !== undefined && entry.state !== "failed") made.set(entry.output, entry);
    lines.set(entry.line, entry);
  };
  for (const line of text.split("\n")) {
    const entry = entryOf(line);
    if (entry) index(entry);
  }
  const file = await openToAppend(path);
  // A killed process may have left an incomplete line: the next entry starts a new one.
  let isTorn = text !== "" && !text.endsWith("\n");
  return {
    made: (output) => made.get(output),
    hashes: (output) => hashes.get(output) ?? new Set(),
    hasFailed: (output, line) => (last.get(output) ?? lines.get(line))?.state === "failed",
    async append(entry) {
      index(entry);
      try {
        await file.appendFile(`${isTorn ? "\n" : ""}${JSON.stringify({ ...entry, at: new Date().toISOString() })}\n`);
        await file.datasync();
      } catch (error) {
        // On a full disk a part of the line may be there.
        isTorn = true;
        throw ioFailure("write", path, error);
      }
      isTorn = false;
    },
    close: () => file.close(),
  };
}

/** The same journal, but an entry that cannot be written is passed to `lost`: results are worth more than knowing of them after a stop. */
export function lenient(journal: Journal, lost: (error: QeditError) => void): Journal {
  return {
    ...journal,
    async append(entry) {
      await journal.append(entry).catch((error: unknown) => {
        if (!(error instanceof QeditError)) throw error;
        lost(error);
      });
    },
  };
}

async function openToAppend(path: string) {
  try {
    await makeFolders(dirname(path));
    return await open(path, "a", PRIVATE.file);
  } catch (error) {
    throw ioFailure("write", path, error);
  }
}

// undefined for a damaged line.
function entryOf(line: string): JournalEntry | undefined {
  try {
    const { success, output } = v.safeParse(entrySchema, JSON.parse(line), { abortEarly: true });
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}
