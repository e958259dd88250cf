// What of a machine may change the last bits of a result, for finding results that were made before.
import { cpus } from "node:os";
import { type Device, deviceName } from "./providers.js";
import { runtimeVersion } from "./sessions/runtime-version.js";

/** The device, ONNX Runtime's version, and on the CPU its model and threads: kernels are chosen by the one, sums are split by the other. */
export function deviceIdentity(device: Device): Readonly<Record<string, string | number>> {
  const where = {
    device: deviceName(device),
    platform: `${process.platform}-${process.arch}`,
    runtime: runtimeVersion(),
  };
  return device.provider === "cpu" ? { ...where, cpu: cpus()[0]?.model ?? "", threads: device.threads } : where;
}
