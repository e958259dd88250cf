// A receipt beside each file that qedit downloaded: where it came from and its hash. Only files with one are ever removed.
import { readFile, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { writeFileAtomically } from "../../std/files.js";

const receiptSchema = v.object({
  repository: v.string(),
  path: v.string(),
  revision: v.string(),
  bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
});

/** Origin, length and hash of a downloaded file. */
export type Receipt = Readonly<v.InferOutput<typeof receiptSchema>>;

/** Writes the receipt of a file. Throws QEDIT_E_IO. */
export async function writeReceipt(file: string, receipt: Receipt): Promise<void> {
  await writeFileAtomically(receiptOf(file), new TextEncoder().encode(`${JSON.stringify(receipt, null, 2)}\n`));
}

/** The receipt of a file; undefined for files that qedit did not download, and for a damaged receipt, which proves nothing. */
export async function readReceipt(file: string): Promise<Receipt | undefined> {
  try {
    const { success, output } = v.safeParse(receiptSchema, JSON.parse(await readFile(receiptOf(file), "utf8")));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

/** Removes the receipt of a file. */
export async function removeReceipt(file: string): Promise<void> {
  await rm(receiptOf(file), { force: true });
}

function receiptOf(file: string): string {
  return join(dirname(file), `.${basename(file)}.qedit.json`);
}
