// The VAE's compute type: 16 bits where the device supports them, with float32 as the fallback for pictures that overflow.
import { computeType, typeName } from "../../engine/providers.js";
import type { DType } from "../../graph/types.js";
import { QeditError } from "../../std/errors.js";
import type { StageContext } from "../stage.js";

/** A result, and the type it was computed in. */
export interface VaeResult<T> {
  readonly result: T;
  readonly compute: DType;
}

/** Runs the VAE in the requested type. If the result is broken in 16 bits, emits a note and runs once more in float32. */
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
