// What a stage is: data in, one result out, the same code whether it runs alone, inside a whole edit, or behind a server.
import type { Artifact } from "../artifacts/artifact.js";
import type { ArtifactKind } from "../artifacts/kinds.js";
import type { Device } from "../engine/providers.js";
import type { Engine } from "../engine/sessions/engine.js";
import type { Emit } from "../std/events.js";
import type { Picture } from "./pictures.js";

/** Names of the stages, in order. */
export const STAGES = ["encode-image", "encode-prompt", "sample", "decode"] as const;

/** Name of a stage. */
export type StageName = (typeof STAGES)[number];

/** What a stage works with besides what it is called with. */
export interface StageContext {
  readonly engine: Engine;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Gives what was made before under a key, or makes it: graphs and the tokenizer, for those who run a stage many times. */
  readonly memoize?: Memoize;
  /** Bytes of the device that a stage may take; undefined is no limit. */
  readonly vram?: number | undefined;
  /** Folder of modulation vectors of earlier runs; undefined keeps and takes none. */
  readonly modulationFolder?: string | undefined;
}

/** Gives what was made before under a key, or makes it and keeps it. */
export type Memoize = <T>(key: string, make: () => Promise<T>) => Promise<T>;

/** Lengths by name, such as `latent channels`: what a stage gives or takes. */
export type StageLengths = Readonly<Record<string, number>>;

/** The open model files of a stage, and the values of its parameters. */
export interface Asked<Models, Settings> {
  readonly models: Models;
  readonly settings: Settings;
}

/** One call of a stage. */
export interface StageInput<Inputs, Models, Settings> extends Asked<Models, Settings> {
  readonly inputs: Inputs;
}

/** A stage: its name and what it takes and gives as data, and one function. */
export interface Stage<Inputs, Models, Settings, Output> {
  readonly name: StageName;
  /** One line for help. */
  readonly summary: string;
  /** Raised when the same inputs and settings give another result. */
  readonly version: number;
  /** Names of the inputs, as in files and on servers, with what they are. */
  readonly inputs: Readonly<Record<keyof Inputs, string>>;
  /** What the result is: a kind of artifact, or a picture. */
  readonly output: ArtifactKind | "picture";
  /** Parameters that it reads, as its settings name them. */
  readonly parameters: readonly (keyof Settings & string)[];
  /**
   * Throws what can be known before anything is computed: files of another model, settings that do not go together.
   * Gives the lengths in which the stages of one edit must agree.
   */
  readonly check: (
    pictures: readonly Picture[],
    asked: Asked<Models, Settings>,
    device: Device,
  ) => Promise<StageLengths>;
  readonly run: (input: StageInput<Inputs, Models, Settings>, context: StageContext) => Promise<Output>;
}

/** A stage whose result is a tensor file, and may be taken from an earlier run. */
export interface ArtifactStage<Inputs, Models, Settings> extends Stage<Inputs, Models, Settings, Artifact> {
  readonly output: ArtifactKind;
  /** Emits what will be done, whether it is computed or was before: sizes, what of a LoRA matched. */
  readonly announce: (input: StageInput<Inputs, Models, Settings>, emit: Emit) => void;
  /** Everything that decides the result besides the stage's version, as JSON: hashes of inputs, settings as they are recorded, weights, device. */
  readonly identity: (input: StageInput<Inputs, Models, Settings>, device: Device) => object;
}
