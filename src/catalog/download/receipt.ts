// A receipt beside each file that qedit downloaded: where it came from and its hash. Only files with one are ever removed.
import { readFile, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { writeFileAtomically } from "../../std/files.js";

/** Where a file came from, and what came. */
export interface Receipt {
  readonly repository: string;
  readonly path: string;
  readonly revision: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Writes the receipt of a file. Throws QEDIT_E_IO. */
export async function writeReceipt(file: string, receipt: Receipt): Promise<void> {
  await writeFileAtomically(receiptOf(file), new TextEncoder().encode(`${JSON.stringify(receipt, null, 2)}\n`));
}

/** The receipt of a file; undefined for files that qedit did not download. */
export async function readReceipt(file: string): Promise<Receipt | undefined> {
  try {
    return JSON.parse(await readFile(receiptOf(file), "utf8")) as Receipt;
  } catch {
    // Absent or torn, it proves nothing.
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
