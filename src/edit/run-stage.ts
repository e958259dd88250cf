// One stage, once: its result from an earlier run if there is one, else computed, with start and end told.
import type { Artifact } from "../artifacts/artifact.js";
import { type ArtifactCache, cacheKey } from "../artifacts/artifact-cache.js";
import type { OptionTable, SettingsOf } from "../stages/option.js";
import type { ArtifactStage, StageContext } from "../stages/stage.js";
import { QeditError } from "../std/errors.js";
import type { Emit } from "../std/events.js";
import type { PipelineContext } from "./context.js";

/** Runs one piece of work as a stage of that name, with its start and end told. */
export async function timed<T>(
  stage: string,
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

/** A stage with what it is to work on. */
export interface StageCall<Inputs, Table extends OptionTable> {
  readonly stage: ArtifactStage<Inputs, Table>;
  readonly inputs: Inputs;
  readonly settings: SettingsOf<Table>;
}

/** The key under which a stage's result is kept. */
async function stageKey<Inputs, Table extends OptionTable>(
  { stage, inputs, settings }: StageCall<Inputs, Table>,
  { engine }: StageContext,
): Promise<string> {
  return cacheKey({
    stage: stage.name,
    version: stage.version,
    ...(await stage.identity(inputs, settings, engine.device)),
  });
}

/** A stage's result, and its key where the context has a cache. */
export interface StageResult {
  readonly artifact: Artifact;
  readonly key: string | undefined;
}

/** The result of a stage, from the cache of the context or computed and kept there. */
export function runStage<Inputs, Table extends OptionTable>(
  call: StageCall<Inputs, Table>,
  context: PipelineContext,
): Promise<StageResult> {
  const { stage, inputs, settings } = call;
  return timed(stage.name, context, async () => {
    await stage.announce(inputs, settings, context.emit);
    const { cache } = context;
    if (!cache) return { artifact: await stage.run(inputs, settings, context), key: undefined };
    const key = await stageKey(call, context);
    const found = await cache.find(key, stage.output);
    if (found) {
      context.emit({ kind: "cache", action: "hit", stage: stage.name, key });
      return { artifact: found, key };
    }
    const artifact = await stage.run(inputs, settings, context);
    if (await tryKeeping(cache, { key, artifact, emit: context.emit }))
      context.emit({ kind: "cache", action: "stored", stage: stage.name, key });
    return { artifact, key };
  });
}

/** Keeps an artifact; a cache that cannot be written to is no reason to stop, and is warned of. True when it is there now. */
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
