// What edits work with: an engine that can keep sessions, and the results of earlier runs.
import type { ArtifactCache } from "../artifacts/cache.js";
import type { Model } from "../engine/engine.js";
import type { StageContext } from "../stages/stage.js";
import type { KeptEngine } from "./kept-engine.js";

/** A stage's context, and what lasts longer than a stage. */
export interface PipelineContext extends StageContext {
  readonly engine: KeptEngine;
  readonly models: Map<string, Model>;
  /** Results of earlier runs; undefined keeps and takes none. */
  readonly cache: ArtifactCache | undefined;
  /** Bytes that weights may take at once; undefined when nobody knows. */
  readonly memory: number | undefined;
}
