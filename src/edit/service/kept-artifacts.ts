// The artifacts of one edit while it is made: each computed once, and found again in the caches after they were let go of.
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import type { ArtifactStage } from "../../stages/stage.js";
import type { EditContext } from "./context.js";
import { type FoundInput, runStage } from "./run-stage.js";

/** The artifacts of an edit. */
export interface KeptArtifacts {
  /** A stage's result; `inputOf` is called if it has to be computed. */
  readonly once: <Inputs, Models, Settings>(
    stage: ArtifactStage<Inputs, Models, Settings>,
    inputOf: () => Promise<FoundInput<Inputs, Models, Settings>>,
    within?: EditContext,
  ) => Promise<Artifact>;
  /** Releases those in memory. */
  readonly release: () => void;
}

/** Opens them. `scratch` stores artifacts that are not kept after the work is done; `onArtifact` receives each that was made. */
export function keptArtifacts(
  context: EditContext,
  {
    scratch,
    onArtifact,
  }: {
    readonly scratch: ArtifactCache | undefined;
    readonly onArtifact?: ((artifact: Artifact) => Promise<void>) | undefined;
  },
): KeptArtifacts {
  const held = new Map<string, Artifact>();
  const keys = new Map<string, string>();
  return {
    async once(stage, inputOf, within = context) {
      const key = keys.get(stage.name);
      const stored = async (store: ArtifactCache | undefined) =>
        key === undefined ? undefined : store?.find(key, stage.output);
      const known = held.get(stage.name) ?? (await stored(context.cache)) ?? (await stored(scratch));
      if (known) return known;
      const made = await runStage(stage, await inputOf(), within);
      await onArtifact?.(made.artifact);
      if (made.key !== undefined) keys.set(stage.name, made.key);
      held.set(stage.name, made.artifact);
      return made.artifact;
    },
    release: () => held.clear(),
  };
}
