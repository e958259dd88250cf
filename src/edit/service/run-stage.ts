// Runs one stage, or takes its result from the cache; emits its start and end.
import type { Artifact } from "../../artifacts/artifact.js";
import { type ArtifactCache, cacheKey } from "../../artifacts/artifact-cache.js";
import type { ArtifactStage, StageContext, StageInput, StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { EditContext } from "./context.js";

/** Does some work between the start and end events of a stage. */
export async function timed<T>(
  stage: StageName,
  { emit, signal }: Pick<StageContext, "emit" | "signal">,
  work: () => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const start = performance.now();
  emit({ kind: "start", stage });
  const result = await work();
  emit({ kind: "end", stage, seconds: (performance.now() - start) / 1000 });
  return result;
}

/** A stage's result, and its cache key if the context has a cache. */
export interface StageResult {
  readonly artifact: Artifact;
  readonly key: string | undefined;
}

/** The result of a stage, from the context's cache or computed and stored there. */
export function runStage<Inputs, Models, Settings>(
  stage: ArtifactStage<Inputs, Models, Settings>,
  input: StageInput<Inputs, Models, Settings>,
  context: EditContext,
): Promise<StageResult> {
  return timed(stage.name, context, async () => {
    stage.announce(input, context.emit);
    const { cache } = context;
    if (!cache) return { artifact: await stage.run(input, context), key: undefined };
    const { name, version } = stage;
    const key = cacheKey({ stage: name, version, ...stage.identity(input, context.engine.device) });
    const found = await cache.find(key, stage.output);
    if (found) {
      context.emit({ kind: "cache", action: "hit", stage: name, key });
      return { artifact: found, key };
    }
    const artifact = await stage.run(input, context);
    if (await tryKeeping(cache, { key, artifact, emit: context.emit }))
      context.emit({ kind: "cache", action: "stored", stage: name, key });
    return { artifact, key };
  });
}

/** Stores an artifact; returns whether it is in the cache now. Only warns if the cache folder cannot be written. */
export async function tryKeeping(
  cache: ArtifactCache,
  { key, artifact, emit }: { key: string; artifact: Artifact; emit: Emit },
): Promise<boolean> {
  try {
    return await cache.keep(key, artifact);
  } catch (error) {
    if (!(error instanceof QeditError && error.code === "QEDIT_E_IO")) throw error;
    const reason = error.message.split(": ").at(-1);
    emit({ kind: "warning", text: `results are not kept for later runs in ${cache.folder}: ${reason}` });
    return false;
  }
}
