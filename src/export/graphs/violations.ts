// What exported graphs refuse, beside what their inputs' shapes say.
import { counted, nonFinite, refuseUnless } from "../../graph/indexing.js";
import type { Value } from "../../graph/value.js";

/** A float tensor as it is; a run that makes it NaN or infinite fails. */
export function refuseNonFinite(x: Value, what: string): Value {
  return refuseUnless(x, nonFinite(x), `${what} must be finite`);
}

/** Whole numbers as they are; a run where one is not from 1 to `most`, i64 [1], fails. */
export function refuseOutside(x: Value, most: Value, message: string): Value {
  const outside = violated(x.atLeast(1)).add(counted(x.atLeast(most.add(1))));
  return refuseUnless(x, outside.sum().reshape([1]), message);
}

/** 1 where the condition does not hold, else 0: bool as i64. */
export function violated(condition: Value): Value {
  return counted(condition).mul(-1).add(1);
}
