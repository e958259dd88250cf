// What edits work with: an engine that can keep sessions, and the results of earlier runs.
import type { ArtifactCache } from "../artifacts/artifact-cache.js";
import type { Recall, StageContext } from "../stages/stage.js";
import type { KeptEngine } from "./kept-engine.js";

/** A stage's context, and what lasts longer than a stage. */
export interface PipelineContext extends StageContext {
  readonly engine: KeptEngine;
  readonly recall: Recall;
  /** Results of earlier runs; undefined keeps and takes none. */
  readonly cache: ArtifactCache | undefined;
  /** Gives the bytes that weights may take at once; undefined when nobody knows. */
  readonly memory: () => Promise<number | undefined>;
}

/** A memory for what takes time to make and stays the same: graphs, the tokenizer. */
export function memory(): Recall {
  const known = new Map<string, Promise<unknown>>();
  return (key, make) => {
    const made = known.get(key) ?? make();
    known.set(key, made);
    // A failure is not remembered: the next one may succeed.
    made.catch(() => known.delete(key));
    return made as ReturnType<typeof make>;
  };
}
