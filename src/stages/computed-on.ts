// The provider, compute type and runtime in a stage's record: what may change the bits of its result.
import type { Device } from "../engine/providers.js";
import { runtimeVersion } from "../engine/sessions/runtime-version.js";
import type { DType } from "../graph/types.js";

/** Provider, compute type and ONNX Runtime version of one stage. Holds no name of the machine. */
export function computedOn({ provider }: Device, type: DType): Readonly<Record<string, string>> {
  return { device: provider, compute_type: type, runtime: runtimeVersion() };
}
