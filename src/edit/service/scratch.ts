// Artifacts between stages in this process's memory, for whoever gives no folder for them.
import type { Artifact } from "../../artifacts/artifact.js";
import type { Scratch } from "./lane.js";

/** A scratch that is gone with its last reference. */
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
