// A limit of kept results where none are kept.
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { GivenSetting } from "./settings.js";

/** Throws QEDIT_E_USAGE for a call's --cache-limit beside --no-cache, or warns with --force; that of a settings file may be meant for other calls. */
export function refuseUselessCacheLimit(given: ReadonlyMap<string, GivenSetting>, emit: Emit): void {
  const limit = given.get("cacheLimit");
  const none = given.get("noCache");
  if (!limit?.isOfCall || none?.value !== true) return;
  const text = `Cannot use ${limit.name} with ${none.name}: it has no effect`;
  if (given.get("force")?.value !== true)
    throw new QeditError("QEDIT_E_USAGE", text, { hint: "Leave one of them out" });
  emit({ kind: "warning", text });
}
