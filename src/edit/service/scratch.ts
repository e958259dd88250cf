// Stores artifacts between stages in memory: the default scratch of a service.
import type { Artifact } from "../../artifacts/artifact.js";
import type { Scratch } from "./lane.js";

/** A scratch in memory. */
export function memoryScratch(): Scratch {
  const artifacts = new Map<string, Artifact>();
  return {
    folder: "memory",
    find: async (key) => artifacts.get(key),
    async keep(key, artifact) {
      artifacts.set(key, artifact);
      return true;
    },
    async [Symbol.asyncDispose]() {
      artifacts.clear();
    },
  };
}
