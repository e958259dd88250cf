// What edits work with: a pool of sessions, the results of earlier runs, and what is made once for all of them.
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Memoize, StageContext } from "../../stages/stage.js";
import type { SessionPool } from "./session-pool.js";

/** A stage's context, and what lasts longer than a stage. */
export interface EditContext extends StageContext {
  readonly engine: SessionPool;
  readonly memoize: Memoize;
  /** Results of earlier runs; undefined keeps and takes none. */
  readonly cache: ArtifactCache | undefined;
}

/** Memoizes graphs and the tokenizer by key. A failure is not kept: the next try may succeed. */
export function memoizer(): Memoize {
  const known = new Map<string, Promise<unknown>>();
  return (key, make) => {
    const made = known.get(key) ?? make();
    known.set(key, made);
    made.catch(() => known.delete(key));
    return made as ReturnType<typeof make>;
  };
}
