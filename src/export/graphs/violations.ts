// What exported graphs refuse, beside what their inputs' shapes say.
import { counted, nonFinite, refuseUnless } from "../../graph/indexing.js";
import type { Value } from "../../graph/value.js";

/** A float tensor as it is; a run that makes it NaN or infinite fails. */
export function refuseNonFinite(x: Value, what: string): Value {
  return refuseUnless(x, nonFinite(x), `${what} must be finite`);
}

/** 1 where the condition does not hold, else 0: bool as i64. */
export function violated(condition: Value): Value {
  return counted(condition).mul(-1).add(1);
}
