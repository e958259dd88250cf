// The version of ONNX Runtime: others may round differently.
import { createRequire } from "node:module";

/** Name and version of the runtime, for records: `onnxruntime 1.29.0`. */
export function runtimeVersion(): string {
  const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
  return `onnxruntime ${version}`;
}
