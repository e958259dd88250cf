// Whether 8-bit weights are converted to float32 once, when the session opens, or at every run, and how.
import { totalmem } from "node:os";
import { ELEMENT, type Widening } from "../../graph/types.js";
import type { Device } from "../providers.js";
import type { Optimization } from "./engine.js";

/** Limits of weights as float32: bytes, and share of the machine's memory. */
const MAX_BYTES = 4 * 1024 ** 3;
const MAX_SHARE = 1 / 4;

/** Weights: their shapes, bytes, and whether they are packed. */
type Stored = ReadonlyMap<
  string,
  { readonly shape: readonly number[]; readonly length: number; readonly packed?: unknown }
>;

/**
 * The optimization of a network that runs many times: "widened" on the CPU when its weights fit the limits as float32. Widening 8-bit floats takes up to a
 * tenth of the time of the matrix products after it, so that doing it once pays from the tenth run on or so (bench/README.md). "full" where
 * a matrix is float32 already: ONNX Runtime lays it out for its products, which it would not if "widened". "none" for larger networks, for packed weights, which are not converted when a session opens, and on a GPU,
 * where weights stay as they are stored.
 */
export function affordableOptimization(
  { externals }: { readonly externals: Stored },
  { provider }: Device,
): Optimization {
  const stored = [...externals.values()];
  if (provider !== "cpu" || stored.some(({ packed }) => packed !== undefined)) return "none";
  const bytes = ({ shape }: (typeof stored)[number]) => shape.reduce((count, dim) => count * dim, ELEMENT.f32.bytes);
  if (stored.reduce((sum, each) => sum + bytes(each), 0) > Math.min(MAX_BYTES, totalmem() * MAX_SHARE)) return "none";
  const matrices = stored.filter(({ shape }) => shape.length > 1);
  return matrices.some((each) => each.length === bytes(each)) ? "full" : "widened";
}

/** How a graph that is opened so widens weights in 8-bit floats. Those that are widened once stay Casts, which ONNX Runtime folds. */
export function wideningOf(optimization: Optimization, { provider }: Device): Widening {
  return provider === "cpu" && optimization === "none" ? "look-up" : "cast";
}
