// Refuses NaN and infinity at the end of every stage, before a result is written.
import { firstNonFinite } from "../sampling/float32.js";
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";

/** Throws QEDIT_E_BAD_OUTPUT when a result holds NaN or infinity; `what` names it. */
export function refuseNonFinite({ data, type }: Tensor, what: string): void {
  if (type !== "float32") throw new Error(`internal: ${what} is ${type}`);
  const at = firstNonFinite(data as Float32Array);
  if (at >= 0) throw nonFinite(what, `element ${at} is ${data[at]}`);
}

/** The QEDIT_E_BAD_OUTPUT error `Computed <what>, but <reason>`. */
export function nonFinite(what: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_BAD_OUTPUT", `Computed ${what}, but ${reason}`, {
    hint: `Model files that are not as published do this: compare their SHA-256 by \`qedit models verify\`. On a GPU, try ${param("dtype", "float32")}`,
  });
}
