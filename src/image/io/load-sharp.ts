// Loads sharp, a native module, when a picture is read or written.
import { createRequire } from "node:module";

type Sharp = typeof import("sharp").default;

/**
 * sharp, as CommonJS: imported, it takes 60 ms of the processor more with Node 20, which scans the packages of CommonJS that sharp's ES modules import
 * for the names of their exports.
 */
export function loadSharp(): Sharp {
  return createRequire(import.meta.url)("sharp") as Sharp;
}
