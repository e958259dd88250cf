// Loads ONNX Runtime and preloads the libraries of its CUDA provider from folders that the dynamic loader does not search: it takes a library
// that is loaded already by its soname (tried with glibc 2.36), and ONNX Runtime looks for the provider beside its own library.
import { createRequire } from "node:module";
import { constants } from "node:os";
import { join } from "node:path";
import { type FoundLibrary, inspectLibraries } from "../cuda/libraries.js";
import { CORE_FILE, installedRelease, providerFolder } from "../cuda/release.js";
import type { Device } from "../providers.js";
import { disableTelemetry } from "./telemetry.js";

/** ONNX Runtime's module. */
export type OnnxRuntime = typeof import("onnxruntime-node");

/** Flag of dlopen: never unload. The value is that of dlfcn.h in glibc and musl; Node has no constant for it. */
const RTLD_NODELETE = 0x1000;

/**
 * Loads ONNX Runtime: from qedit's own folder when that has the CUDA provider, else from node_modules. For CUDA it first loads the libraries that
 * the dynamic loader would not find. Throws when the native module does not load.
 */
export async function loadOnnxRuntime({ provider }: Pick<Device, "provider">): Promise<OnnxRuntime> {
  disableTelemetry();
  const release = installedRelease();
  const folder = await providerFolder(release);
  if (folder === release.ownFolder) loadLibrary(join(folder, CORE_FILE));
  if (folder !== undefined && provider === "cuda") await preloadCudaLibraries(folder);
  // The native module loads only when something is to be run. Imported, it would be scanned for the names of its exports, as CommonJS is.
  const ort = createRequire(import.meta.url)("onnxruntime-node") as OnnxRuntime;
  // Failures are exceptions; ONNX Runtime would log them to stderr as well.
  ort.env.logLevel = "fatal";
  return ort;
}

/** Loads a shared library and never unloads it; returns the dynamic loader's error message, or undefined. */
export function loadLibrary(path: string): string | undefined {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_LAZY | RTLD_NODELETE);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // It is loaded; process.dlopen also expects a Node module in it.
    return message.startsWith("Module did not self-register") ? undefined : message;
  }
  return undefined;
}

// Errors are ignored here: when a session does not open, explainFailure reports them.
async function preloadCudaLibraries(folder: string): Promise<void> {
  const { found } = await inspectLibraries(folder);
  for (const { path } of found.filter(isHidden)) loadLibrary(path);
}

function isHidden({ isSearched }: FoundLibrary): boolean {
  return !isSearched;
}
