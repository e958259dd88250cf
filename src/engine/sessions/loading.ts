// Loading ONNX Runtime with its CUDA provider, wherever that and the libraries it needs lie: what a process has loaded already, the
// dynamic loader takes by its soname and does not search for again (tried with glibc 2.36: ONNX Runtime then finds the provider beside its library).
import { constants } from "node:os";
import { join } from "node:path";
import { type FoundLibrary, inspectLibraries } from "../cuda/libraries.js";
import { CORE_FILE, installedRelease, providerFolder } from "../cuda/release.js";
import type { Device } from "../providers.js";
import { refuseTelemetry } from "./telemetry.js";

/** ONNX Runtime's module. */
export type OnnxRuntime = typeof import("onnxruntime-node");

/** Keeps a library for the life of the process; glibc's and musl's dlfcn.h agree on the number, Node has no name for it. */
const RTLD_NODELETE = 0x1000;

/** Loads ONNX Runtime, from qedit's own folder where setup has put the provider there, and for CUDA the libraries that the dynamic loader would not find. */
export async function loadOnnxRuntime({ provider }: Pick<Device, "provider">): Promise<OnnxRuntime> {
  refuseTelemetry();
  const release = installedRelease();
  const folder = await providerFolder(release);
  if (folder === release.ownFolder) holdLibrary(join(folder, CORE_FILE));
  if (folder !== undefined && provider === "cuda") await holdCudaLibraries(folder);
  // The native module loads only when something is to be run.
  const ort = await import("onnxruntime-node");
  // Failures come back as exceptions; the runtime's own log lines would only double them on stderr.
  ort.env.logLevel = "fatal";
  return ort;
}

/** Loads a library for good; gives what the dynamic loader says when it cannot. */
export function holdLibrary(path: string): string | undefined {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_LAZY | RTLD_NODELETE);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // It is loaded; that it is no module of Node's was known.
    return message.startsWith("Module did not self-register") ? undefined : message;
  }
  return undefined;
}

// What does not load is told by the diagnosis, when a session does not open.
async function holdCudaLibraries(folder: string): Promise<void> {
  const { found } = await inspectLibraries(folder);
  for (const { path } of found.filter(isHidden)) holdLibrary(path);
}

function isHidden({ isSearched }: FoundLibrary): boolean {
  return !isSearched;
}
