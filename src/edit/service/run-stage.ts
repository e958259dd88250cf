// Runs one stage, or takes its result from the cache; emits its start and end.
import type { Artifact } from "../../artifacts/artifact.js";
import { type ArtifactCache, cacheKey } from "../../artifacts/artifact-cache.js";
import { type DecodedPicture, decode } from "../../stages/decode.js";
import type { ArtifactStage, StageContext, StageInput, StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { RemoteInput, RemoteStages } from "../remote/remote-stages.js";
import type { EditContext } from "./context.js";

/** Does some work between the start and end events of a stage. */
async function timed<T>(
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

type DecodeInput = Parameters<typeof decode.run>[0];

/** Models as they are found: undefined for a stage that runs elsewhere. */
export type FoundModels<Models> = { readonly [Role in keyof Models]: Models[Role] | undefined };

/** The input of a stage, which may run elsewhere. */
export type FoundInput<Inputs, Models, Settings> = StageInput<Inputs, FoundModels<Models>, Settings>;

/** The result of a stage, from the context's cache or computed and stored there; by its server if it runs elsewhere. */
export function runStage<Inputs, Models, Settings>(
  stage: ArtifactStage<Inputs, Models, Settings>,
  input: FoundInput<Inputs, Models, Settings>,
  context: EditContext,
): Promise<StageResult> {
  return timed(stage.name, context, () =>
    context.remote?.has(stage.name)
      ? runElsewhere(stage, remoteInput(input), { context, remote: context.remote })
      : runHere(stage, localInput(input), context),
  );
}

/** The picture of decode; by its server if it runs elsewhere. */
export function decodePicture(
  input: FoundInput<DecodeInput["inputs"], DecodeInput["models"], DecodeInput["settings"]>,
  context: EditContext,
): Promise<DecodedPicture> {
  return timed(decode.name, context, async () => {
    if (!context.remote?.has(decode.name)) return decode.run(localInput(input), context);
    const made = await context.remote.decode(remoteInput(input), context);
    return { ...made, isDescribed: !input.settings.noMetadata };
  });
}

// Resolving opens the model files of every stage that runs here.
function localInput<Inputs, Models, Settings>(
  input: FoundInput<Inputs, Models, Settings>,
): StageInput<Inputs, Models, Settings> {
  return input as StageInput<Inputs, Models, Settings>;
}

function remoteInput({ inputs, models, settings }: FoundInput<unknown, unknown, unknown>): RemoteInput {
  return {
    inputs: inputs as RemoteInput["inputs"],
    settings: settings as RemoteInput["settings"],
    models: models as object,
  };
}

async function runHere<Inputs, Models, Settings>(
  stage: ArtifactStage<Inputs, Models, Settings>,
  input: StageInput<Inputs, Models, Settings>,
  context: EditContext,
): Promise<StageResult> {
  stage.announce(input, context.emit);
  const { cache } = context;
  if (!cache) return { artifact: await stage.run(input, context), key: undefined };
  const { name, version } = stage;
  const key = cacheKey({ stage: name, version, ...stage.identity(input, context.engine.device) });
  const found = await foundIn(cache, { key, stage, context });
  if (found) return { artifact: found, key };
  const artifact = await stage.run(input, context);
  await keptIn(cache, { key, artifact, stage, context });
  return { artifact, key };
}

// What was computed with weights that are not known to be those that are expected is kept only while the work lasts.
async function runElsewhere<Inputs, Models, Settings>(
  stage: ArtifactStage<Inputs, Models, Settings>,
  input: RemoteInput,
  { context, remote }: { context: EditContext; remote: RemoteStages },
): Promise<StageResult> {
  const prepared = await remote.prepare(stage.name, input);
  const { cache, scratch } = context;
  const { name, version } = stage;
  const key = cacheKey({ stage: name, version, elsewhere: prepared.identity });
  for (const store of [cache, scratch]) {
    const found = store && (await foundIn(store, { key, stage, context }));
    if (found) return { artifact: found, key };
  }
  const { artifact, isVerified } = await prepared.run(context);
  const store = isVerified ? cache : scratch;
  if (store) await keptIn(store, { key, artifact, stage, context });
  return { artifact, key };
}

interface Entry {
  readonly key: string;
  readonly stage: Pick<ArtifactStage<never, never, never>, "name" | "output">;
  readonly context: EditContext;
}

async function foundIn(cache: ArtifactCache, { key, stage, context }: Entry): Promise<Artifact | undefined> {
  const found = await cache.find(key, stage.output);
  if (found) context.emit({ kind: "cache", action: "hit", stage: stage.name, key });
  return found;
}

async function keptIn(
  cache: ArtifactCache,
  { key, artifact, stage, context }: Entry & { readonly artifact: Artifact },
): Promise<void> {
  if (await tryKeeping(cache, { key, artifact, emit: context.emit }))
    context.emit({ kind: "cache", action: "stored", stage: stage.name, key });
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
