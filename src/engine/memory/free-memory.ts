// How much memory a device has left for weights.
import { freemem } from "node:os";
import { findGpus } from "../cuda/gpus.js";
import type { Device } from "../providers.js";

/** Bytes free on a device; undefined when a GPU's driver does not say. Limits of a container count. */
export async function freeMemory({ provider, index }: Device): Promise<number | undefined> {
  if (provider === "cpu") return process.availableMemory?.() ?? freemem();
  return (await findGpus()).gpus.find((gpu) => gpu.index === index)?.freeMemory;
}
