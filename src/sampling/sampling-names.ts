// Looking up a sampler or a scheduler by the name that a user gave.
import { closest } from "../std/closest.js";
import { QeditError } from "../std/errors.js";

/** The entry of that name; throws QEDIT_E_USAGE with all names, and the nearest one as a hint, when there is none. */
export function entryNamed<T>(entries: Readonly<Record<string, T>>, kind: string, name: string): T {
  if (Object.hasOwn(entries, name)) return entries[name]!;
  const names = Object.keys(entries);
  const near = closest(name.toLowerCase(), names);
  const hint = near === undefined ? {} : { hint: `Did you mean "${near}"?` };
  throw new QeditError("QEDIT_E_USAGE", `Unknown ${kind} "${name}": allowed are ${names.join(", ")}`, hint);
}
