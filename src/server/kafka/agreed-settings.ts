// What the first worker of an edit took its parameters for, and whether a later one does so too: parameters that are left out are as each worker is set.

import { jsonName } from "../../edit/parameters/parameter.js";
import { determining } from "../../edit/request/edit-stage.js";
import type { ResolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { param, QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";

/** What each machine chooses for itself. */
const OF_THE_MACHINE = new Set(["dtype", "textDtype", "vaeDtype"]);

/** The settings of an edit as JSON that goes with it. */
export function agreedSettings(settings: ResolvedSettings): string {
  const values = Object.entries(determining({ ...settings })).filter(([name]) => !OF_THE_MACHINE.has(name));
  return JSON.stringify(Object.fromEntries(values));
}

/** Throws QEDIT_E_USAGE for a value that this worker would take for another one than the first did. */
export function refuseOtherSettings(agreed: string, settings: ResolvedSettings): void {
  const [first, own] = [parsed(agreed), parsed(agreedSettings(settings))!];
  if (first === undefined)
    throw new QeditError("QEDIT_E_USAGE", "Cannot read the settings of the request: they are no JSON object");
  // Another version of qedit may lack a parameter, or know one that is unknown here: only one that is set matters then.
  const name = Object.keys(first).find((each) =>
    Object.hasOwn(own, each) ? text(first[each]) !== text(own[each]) : Boolean(first[each]),
  );
  if (name === undefined) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot go on with the edit: ${param(jsonName(name))} is ${text(own[name])} here, and was ${text(first[name])} for the stages before`,
    { hint: `Set the workers alike, or give ${param(jsonName(name))} in the request`, parameter: jsonName(name) },
  );
}

function parsed(json: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function text(value: unknown): string {
  return (JSON.stringify(value) ?? "unknown").slice(0, 100);
}
