// Free memory of a device.
import { freemem } from "node:os";
import { findGpus } from "../cuda/gpus.js";
import type { Device } from "../providers.js";

/** Free memory of a device in bytes, within the limits of a container; undefined when a GPU's driver does not report it. */
export async function freeMemory({ provider, index }: Device): Promise<number | undefined> {
  if (provider === "cpu") return process.availableMemory?.() ?? freemem();
  return (await findGpus()).gpus.find((gpu) => gpu.index === index)?.freeMemory;
}
