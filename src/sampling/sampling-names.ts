// Looking up what a user named, and the answer when there is no such thing.

import { QeditError } from "../std/errors.js";

/** Edits by which a typing error is still recognised. */
const MAX_EDITS = 3;

/** The entry of that name; throws QEDIT_E_USAGE with all names, and the nearest one as a hint, when there is none. */
export function entryNamed<T>(entries: Readonly<Record<string, T>>, kind: string, name: string): T {
  if (Object.hasOwn(entries, name)) return entries[name]!;
  const names = Object.keys(entries);
  const [nearest] = names
    .map((known) => ({ known, edits: editDistance(name.toLowerCase(), known) }))
    .sort((a, b) => a.edits - b.edits);
  const hint = nearest !== undefined && nearest.edits <= MAX_EDITS ? { hint: `Did you mean "${nearest.known}"?` } : {};
  throw new QeditError("QEDIT_E_USAGE", `Unknown ${kind} "${name}": allowed are ${names.join(", ")}`, hint);
}

// Levenshtein's distance, one row at a time.
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = row[j]! + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(replaced, row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
