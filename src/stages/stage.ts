// The interface of a stage: inputs, models and settings in, one result out.
import type { Artifact } from "../artifacts/artifact.js";
import type { ArtifactKind } from "../artifacts/kinds.js";
import type { Device } from "../engine/providers.js";
import type { Engine } from "../engine/sessions/engine.js";
import type { Emit } from "../std/events.js";
import type { Tensor } from "../std/tensor.js";
import type { Picture } from "./pictures.js";

/** Names of the stages, in order. */
export const STAGES = ["encode-image", "encode-prompt", "sample", "decode"] as const;

/** Name of a stage. */
export type StageName = (typeof STAGES)[number];

/** A model file as records have it. */
export interface RecordedFile {
  /** checkpointIdentity: equal for equal weights. */
  readonly identity: string;
  /** File name without its folder. */
  readonly name: string;
}

/** What a stage works with besides its input. */
export interface StageContext {
  readonly engine: Engine;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Memoizes graphs and the tokenizer by key, for callers that run a stage many times. */
  readonly memoize?: Memoize;
  /** Bytes of the device that a stage may take; undefined is no limit. */
  readonly vram?: number | undefined;
  /** Receives the clean latent [1, channels, h, w] that the model predicts at each step, normalised, for a preview. */
  readonly onDenoised?: ((latent: Tensor<"float32">) => void) | undefined;
  /** Folder where modulation vectors are cached; undefined: no cache. */
  readonly modulationFolder?: string | undefined;
}

/** Returns the value memoized under a key, or makes and memoizes it. */
export type Memoize = <T>(key: string, make: () => Promise<T>) => Promise<T>;

/** A stage's model files and the values of its parameters. */
export interface StageConfig<Models, Settings> {
  readonly models: Models;
  readonly settings: Settings;
}

/** One call of a stage. */
export interface StageInput<Inputs, Models, Settings> extends StageConfig<Models, Settings> {
  readonly inputs: Inputs;
}

/** A stage. */
export interface Stage<Inputs, Models, Settings, Output> {
  readonly name: StageName;
  /** One line for help. */
  readonly summary: string;
  /** Raised when the same inputs and settings give another result. */
  readonly version: number;
  /** Names of the inputs, as in files and on servers, with descriptions. */
  readonly inputs: Readonly<Record<keyof Inputs, string>>;
  /** Kind of the result. */
  readonly output: ArtifactKind | "picture";
  /** Names of the parameters that it reads. */
  readonly parameters: readonly (keyof Settings & string)[];
  /** Throws what is known to fail before anything is computed: a file that lacks what is asked of it, settings that do not go together. */
  readonly check: (
    pictures: readonly Picture[],
    config: StageConfig<Models, Settings>,
    device: Device,
  ) => Promise<void>;
  readonly run: (input: StageInput<Inputs, Models, Settings>, context: StageContext) => Promise<Output>;
}

/** A stage whose result is an artifact, which can be cached. */
export interface ArtifactStage<Inputs, Models, Settings> extends Stage<Inputs, Models, Settings, Artifact> {
  readonly output: ArtifactKind;
  /** Emits what is known before the result is computed or found in the cache: sizes, matches of LoRAs. */
  readonly announce: (input: StageInput<Inputs, Models, Settings>, emit: Emit) => void;
  /**
   * Everything that determines the result besides the stage's version, as JSON: hashes of inputs, recorded settings, weights with
   * the states of their files, device.
   */
  readonly identity: (input: StageInput<Inputs, Models, Settings>, device: Device) => object;
}
