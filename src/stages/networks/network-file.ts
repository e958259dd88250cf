// A model file as a stage opens it: header, config and identity, from a setting that may be missing.
import { basename } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { openPart } from "../../checkpoint/open.js";
import type { ModelPart } from "../../checkpoint/published-names.js";
import { checkpointConfig, checkpointIdentity } from "../../checkpoint/safetensors/safetensors.js";
import { Weights } from "../../checkpoint/weights.js";
import type { Model } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import type { ConfigJson } from "../../models/config-json.js";
import { QeditError } from "../../std/errors.js";
import type { StageContext } from "../stage.js";

/** A model file with what its header says. */
export interface NetworkFile {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigJson;
  readonly identity: string;
  /** Of the file alone, for records. */
  readonly name: string;
}

/** What of a model file the sizes of its networks follow from: its header. */
export type SizedFile = Pick<NetworkFile, "checkpoint">;

const PARTS = { VAE: "vae", "text encoder": "text_encoder", transformer: "transformer" } as const satisfies Record<
  string,
  ModelPart
>;

/** What a file is for, and the option that names it. */
export interface NetworkRole {
  readonly name: keyof typeof PARTS;
  readonly option: string;
}

/** Reads the headers of a model file or folder; throws QEDIT_E_MODEL_MISSING when none was named, QEDIT_E_CHECKPOINT when it is damaged. */
export async function readNetworkFile(path: string | undefined, { name, option }: NetworkRole): Promise<NetworkFile> {
  if (path === undefined) {
    throw new QeditError("QEDIT_E_MODEL_MISSING", `No ${name} was given`, {
      hint: `Add ${option} FILE, or --model NAME`,
    });
  }
  const checkpoint = await openPart(path, PARTS[name]);
  return {
    checkpoint,
    config: checkpointConfig(checkpoint),
    identity: await checkpointIdentity(checkpoint),
    name: basename(checkpoint.file),
  };
}

/** A cursor for reading numbers of a network before its graph is built. */
export function numbersOf(checkpoint: Checkpoint): Weights {
  return Weights.of(new Graph("numbers"), checkpoint);
}

/** What a graph is built from: equal parts give equal graphs. */
export interface GraphParts {
  readonly network: string;
  readonly file: NetworkFile;
  /** Everything else that decides it, as JSON: the compute type, LoRAs. */
  readonly others?: unknown;
}

/** A network's graph as an engine takes it; not built again where the context remembers one of the same parts. */
export async function networkModel(
  { recall }: StageContext,
  { network, file, others }: GraphParts,
  build: () => Promise<Model>,
): Promise<Model> {
  return recall ? recall(JSON.stringify([network, file.checkpoint.file, file.identity, others]), build) : build();
}
