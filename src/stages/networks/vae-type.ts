// What the VAE computes in: 16 bits where the device has them, and float32 for the picture that does not fit in them.
import { computeType, typeName } from "../../engine/providers.js";
import type { DType } from "../../graph/types.js";
import { QeditError } from "../../std/errors.js";
import type { StageContext } from "../stage.js";

/** A result, and the type that it came out of. */
export interface VaeResult<T> {
  readonly result: T;
  readonly compute: DType;
}

/** Runs the VAE in the type that is asked for; when its result is broken in 16 bits, once more in float32, and says so. */
export async function inVaeType<T>(
  wanted: string,
  { engine, emit, signal }: StageContext,
  run: (compute: DType) => Promise<T>,
): Promise<VaeResult<T>> {
  const compute = computeType(engine.device, "vae", wanted);
  try {
    return { result: await run(compute), compute };
  } catch (error) {
    if (compute === "f32" || !(error instanceof QeditError) || error.code !== "QEDIT_E_BAD_OUTPUT") throw error;
    signal.throwIfAborted();
    emit({
      kind: "note",
      text: `the VAE's result is broken in ${typeName(compute)} (${error.message}): once more in float32`,
    });
    return { result: await run("f32"), compute: "f32" };
  }
}
