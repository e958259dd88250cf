// What a stage is: data in, one result out, the same code whether it runs alone, inside `run`, or behind a server.

import type { Artifact } from "../artifacts/artifact.js";
import type { ArtifactKind } from "../artifacts/kinds.js";
import type { Device } from "../engine/providers.js";
import type { Engine } from "../engine/sessions/engine.js";
import type { Emit } from "../std/events.js";
import type { OptionTable, SettingsOf } from "./option.js";
import type { Picture } from "./pictures.js";

/** What a stage works with besides its inputs. */
export interface StageContext {
  readonly engine: Engine;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Gives what was made before under that key, or makes it: graphs and the tokenizer, for those who run a stage many times. */
  readonly recall?: Recall;
  /** Bytes of the device that a stage may take; undefined is no limit. */
  readonly vram?: number | undefined;
  /** Folder of modulation vectors of earlier runs; undefined keeps and takes none. */
  readonly modulationFolder?: string | undefined;
}

/** Gives what was made before under a key, or makes it and remembers it. */
export type Recall = <T>(key: string, make: () => Promise<T>) => Promise<T>;

/** Lengths by name, such as `latent channels`: what a stage gives or takes. */
export type StageLengths = Readonly<Record<string, number>>;

/** A stage: its name and options as data, and one function. */
export interface Stage<Inputs, Table extends OptionTable, Output> {
  readonly name: string;
  /** One line for help. */
  readonly summary: string;
  /** Raised when the same inputs and settings give another result. */
  readonly version: number;
  /** Names of the inputs, as in files and on servers, with what they are. */
  readonly inputs: Readonly<Record<keyof Inputs, string>>;
  /** What the result is: a kind of artifact, or a picture. */
  readonly output: ArtifactKind | "picture";
  readonly options: Table;
  /**
   * Throws what can be known before anything is computed: missing or damaged files, settings that do not go together.
   * Gives the lengths in which the stages of one edit must agree.
   */
  readonly check: (pictures: readonly Picture[], settings: SettingsOf<Table>, device: Device) => Promise<StageLengths>;
  readonly run: (inputs: Inputs, settings: SettingsOf<Table>, context: StageContext) => Promise<Output>;
}

/** A stage whose result is a tensor file, and may be taken from an earlier run. */
export interface ArtifactStage<Inputs, Table extends OptionTable> extends Stage<Inputs, Table, Artifact> {
  readonly output: ArtifactKind;
  /** Tells what will be done, whether it is computed or was before: sizes, what of a LoRA matched. */
  readonly announce: (inputs: Inputs, settings: SettingsOf<Table>, emit: Emit) => Promise<void>;
  /** Everything that decides the result besides the stage's version, as JSON: hashes of inputs, settings as they are recorded, weights, device. */
  readonly identity: (inputs: Inputs, settings: SettingsOf<Table>, device: Device) => Promise<object>;
}

/** Gives the stage back; lets TypeScript infer its types. */
export function defineStage<Inputs, Table extends OptionTable, Output>(
  stage: Stage<Inputs, Table, Output>,
): Stage<Inputs, Table, Output> {
  return stage;
}

/** Gives the stage back; lets TypeScript infer its types. */
export function defineArtifactStage<Inputs, Table extends OptionTable>(
  stage: ArtifactStage<Inputs, Table>,
): ArtifactStage<Inputs, Table> {
  return stage;
}
