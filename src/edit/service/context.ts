// The context of edits: a session pool, the cache of artifacts, and memoized graphs.
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Memoize, StageContext } from "../../stages/stage.js";
import type { RemoteStages } from "../remote/remote-stages.js";
import type { SessionPool } from "./session-pool.js";

/** A stage's context, with what outlives a stage. */
export interface EditContext extends StageContext {
  readonly engine: SessionPool;
  readonly memoize: Memoize;
  /** Artifacts of earlier runs; undefined: no cache. */
  readonly cache: ArtifactCache | undefined;
  /** Stores artifacts for as long as the work lasts; undefined: nowhere. */
  readonly scratch?: ArtifactCache | undefined;
  /** Stages that run elsewhere; undefined: none. */
  readonly remote?: RemoteStages | undefined;
  /** Where stages run if none runs here. */
  readonly place?: string | undefined;
}

/** Memoizes graphs and the tokenizer by key. A failure is not memoized: the next try may succeed. */
export function memoizer(): Memoize {
  const known = new Map<string, Promise<unknown>>();
  return (key, make) => {
    const value = known.get(key) ?? make();
    known.set(key, value);
    value.catch(() => known.delete(key));
    return value as ReturnType<typeof make>;
  };
}
