// Whether a network's weights may be widened once, when its session opens, instead of at every run.
import { totalmem } from "node:os";
import { ELEMENT } from "../../graph/types.js";
import type { Device } from "../providers.js";
import type { Optimization } from "./engine.js";

/** Most bytes that widened weights may take, and the share of the machine's memory. */
const MOST_BYTES = 4 * 1024 ** 3;
const MOST_SHARE = 1 / 4;

/**
 * For a network that runs several times: "full" on the CPU when its weights, as float32, take little of the memory. ONNX Runtime's
 * cast of 8-bit floats runs on one thread and costs nearly as much as the products it feeds, so widening once pays from the second
 * run on (bench/). "none" for larger networks, and on a GPU, where weights stay as they are stored.
 */
export function affordableOptimization(
  { externals }: { readonly externals: ReadonlyMap<string, { readonly shape: readonly number[] }> },
  { provider }: Device,
): Optimization {
  const elements = [...externals.values()].reduce(
    (sum, { shape }) => sum + shape.reduce((count, dim) => count * dim, 1),
    0,
  );
  const limit = Math.min(MOST_BYTES, totalmem() * MOST_SHARE);
  return provider === "cpu" && elements * ELEMENT.f32.bytes <= limit ? "full" : "none";
}
