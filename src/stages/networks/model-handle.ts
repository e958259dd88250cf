// A model file that is open for an edit: its header was read once, and everything that stages want to know of it is here.
import { basename } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { identified, openPart } from "../../checkpoint/open.js";
import type { ModelPart } from "../../checkpoint/published-names.js";
import { checkpointConfig } from "../../checkpoint/safetensors/safetensors.js";
import { Weights } from "../../checkpoint/weights.js";
import type { Model } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import type { ConfigJson } from "../../models/config-json.js";
import type { StageContext } from "../stage.js";

/** What a model file is for; also the parameter that names it. */
export type ModelRole = "vae" | "textEncoder" | "transformer";

/** Each role's name for people, and its folder in diffusers' layout. */
export const MODEL_ROLES = {
  vae: { name: "VAE", part: "vae" },
  textEncoder: { name: "text encoder", part: "text_encoder" },
  transformer: { name: "transformer", part: "transformer" },
} as const satisfies Readonly<Record<ModelRole, { name: string; part: ModelPart }>>;

/** A model file with what its header says. */
export interface ModelHandle {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigJson;
  /** checkpointIdentity: tells weights apart, whatever the file is called. */
  readonly identity: string;
  /** Of the file alone, for records. */
  readonly name: string;
}

/** What of a model file the sizes of its networks follow from: its header. */
export type SizedFile = Pick<ModelHandle, "checkpoint">;

/** Reads the headers of a model file or folder. Throws QEDIT_E_MODEL_MISSING where nothing is, QEDIT_E_CHECKPOINT when it is damaged. */
export async function openModel(path: string, role: ModelRole): Promise<ModelHandle> {
  const { checkpoint, identity } = await identified((options) => openPart(path, MODEL_ROLES[role].part, options));
  return { checkpoint, config: checkpointConfig(checkpoint), identity, name: basename(checkpoint.file) };
}

/** A cursor for reading numbers of a network before its graph is built. */
export function numbersOf(checkpoint: Checkpoint): Weights {
  return Weights.of(new Graph("numbers"), checkpoint);
}

/** What a graph is built from: equal parts give equal graphs. */
interface GraphParts {
  readonly network: string;
  readonly file: ModelHandle;
  /** Everything else that decides it, as JSON: the compute type, LoRAs. */
  readonly others?: unknown;
}

/** A network's graph as an engine takes it; not built again where the context remembers one of the same parts. */
export async function networkModel(
  { memoize }: StageContext,
  { network, file, others }: GraphParts,
  build: () => Promise<Model>,
): Promise<Model> {
  return memoize ? memoize(JSON.stringify([network, file.checkpoint.file, file.identity, others]), build) : build();
}
