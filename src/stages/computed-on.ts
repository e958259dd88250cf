// What computed a stage, as far as it may change bits: for records. No machine is named.
import type { Device } from "../engine/providers.js";
import { runtimeVersion } from "../engine/sessions/runtime-version.js";
import type { DType } from "../graph/types.js";

/** Kind of device, compute type and runtime of one stage. */
export function computedOn({ provider }: Device, type: DType): Readonly<Record<string, string>> {
  return { device: provider, compute_type: type, runtime: runtimeVersion() };
}
