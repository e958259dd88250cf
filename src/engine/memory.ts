// How much memory a device has left for weights.
import { execFile } from "node:child_process";
import { freemem } from "node:os";
import { promisify } from "node:util";
import type { Device } from "./providers.js";

/** Bytes free on a device; undefined when a GPU's driver does not say. Limits of a container count. */
export async function freeMemory({ provider, index }: Device): Promise<number | undefined> {
  if (provider === "cpu") return process.availableMemory?.() ?? freemem();
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", String(index)], { timeout: 5000 });
    const mebibytes = Number(stdout.trim());
    return Number.isFinite(mebibytes) && mebibytes > 0 ? mebibytes * 1024 ** 2 : undefined;
  } catch {
    return undefined;
  }
}
