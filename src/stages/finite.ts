// NaN and infinity are refused at the edge of every stage, where the cause is near and nothing was written yet.
import { param, QeditError } from "../std/errors.js";
import type { Tensor } from "../std/tensor.js";

/** Throws QEDIT_E_BAD_OUTPUT when a result holds NaN or infinity; `what` names it. */
export function refuseNonFinite({ data, type }: Tensor, what: string): void {
  if (type !== "float32") throw new Error(`internal: ${what} is ${type}`);
  const at = (data as Float32Array).findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw nonFinite(what, `element ${at} is ${data[at]}`);
}

/** The error of a result that holds NaN or infinity: `Computed the picture, but …`. */
export function nonFinite(what: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_BAD_OUTPUT", `Computed ${what}, but ${reason}`, {
    hint: `A damaged model file does this: compare its SHA-256 with the published one. On a GPU, try ${param("dtype", "float32")}`,
  });
}
