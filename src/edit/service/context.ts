// The context of edits: a session pool, the cache of artifacts, and memoized graphs.
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { Memoize, StageContext } from "../../stages/stage.js";
import { isObject } from "../../std/guards.js";
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

/** Bytes of serialized graphs that are memoized. One of 60 blocks has 3 MB, three times that as nodes, and each set of LoRAs has its own. */
const MOST_BYTES = 64 * 1024 ** 2;

/**
 * Memoizes graphs and the tokenizer by key: of serialized graphs up to so many bytes, those that were used last. A failure is not memoized: the
 * next try may succeed.
 */
export function memoizer(most = MOST_BYTES): Memoize {
  const known = new Map<string, { readonly value: Promise<unknown>; bytes: number }>();
  const evict = () => {
    let bytes = [...known.values()].reduce((sum, each) => sum + each.bytes, 0);
    for (const [key, each] of known) {
      if (bytes <= most) return;
      if (each.bytes > 0) known.delete(key);
      bytes -= each.bytes;
    }
  };
  return (key, make) => {
    const entry = known.get(key) ?? { value: make(), bytes: 0 };
    // Moved to the end: most recently used.
    known.delete(key);
    known.set(key, entry);
    const weigh = (value: unknown) => {
      entry.bytes = isObject(value) && value["bytes"] instanceof Uint8Array ? value["bytes"].length : 0;
      evict();
    };
    entry.value.then(weigh, () => known.delete(key));
    return entry.value as ReturnType<typeof make>;
  };
}
