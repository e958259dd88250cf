// The properties of a machine that may change the last bits of a result: part of the keys of cached results.
import { cpus } from "node:os";
import { type Device, deviceName } from "./providers.js";
import { runtimeVersion } from "./sessions/runtime-version.js";

/** The device, platform and version of ONNX Runtime; on the CPU also its model, which selects kernels, and the threads, which split sums. */
export function deviceIdentity(device: Device): Readonly<Record<string, string | number>> {
  const where = {
    device: deviceName(device),
    platform: `${process.platform}-${process.arch}`,
    runtime: runtimeVersion(),
  };
  return device.provider === "cpu" ? { ...where, cpu: cpus()[0]?.model ?? "", threads: device.threads } : where;
}
