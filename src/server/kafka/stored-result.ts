// A picture's result as it is kept in the store and answered with.
import type { JobResult } from "../job-types.js";
import type { StoredResult } from "./claim-store.js";

/** The result without its picture; what has a form of its own is JSON. */
export function storedResult({ recipe, drift, seconds, ...rest }: JobResult): StoredResult {
  const { sha256, type, bytes, width, height, seed, device } = rest;
  return {
    ...{ sha256, type, bytes, width, height, seed, device },
    drift: drift === null ? null : JSON.stringify(drift),
    seconds: { ...seconds },
    recipe: JSON.stringify(recipe),
  };
}
