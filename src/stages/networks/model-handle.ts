// A model file with its parsed header: what stages need to know of it.

import { basename } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { type FileStamps, type ReadFiles, stampAt } from "../../checkpoint/file-identity.js";
import { refuseImplausibleWeights } from "../../checkpoint/magnitudes.js";
import { type Identified, identified, openCheckpoint, placeOfPart } from "../../checkpoint/open.js";
import { type RepackedFile, repackedFile } from "../../checkpoint/packed/packed-layout.js";
import { type ModelPart, publishedNames } from "../../checkpoint/published-names.js";
import { checkpointConfig } from "../../checkpoint/safetensors/safetensors.js";
import { Weights } from "../../checkpoint/weights.js";
import type { Model } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import type { ConfigJson } from "../../models/config-json.js";
import type { NetworkId } from "../../models/network-id.js";
import { reviewPart } from "../../models/review-part.js";
import type { StageContext } from "../stage.js";
import type { MatchedLora } from "./loras.js";

/** Role of a model file; also the name of its parameter. */
export type ModelRole = "vae" | "textEncoder" | "transformer";

/** Each role's name in messages, and its folder in diffusers' layout. */
export const MODEL_ROLES = {
  vae: { name: "VAE", part: "vae" },
  textEncoder: { name: "text encoder", part: "text_encoder" },
  transformer: { name: "transformer", part: "transformer" },
} as const satisfies Readonly<Record<ModelRole, { name: string; part: ModelPart }>>;

/** A model file and its header. */
export interface ModelHandle extends ReadFiles {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigJson;
  /** The identity: equal for equal weights, whatever the file's name. */
  readonly identity: string;
  /** Its files, the repacked one too, as they were when their headers were read. */
  readonly stamps: FileStamps;
  /** File name without its folder, for records. */
  readonly name: string;
  /** What a user should know of the file before it is run: tensors that nothing reads. */
  readonly warning?: string;
  /** The file that its weights are repacked into, where they cannot be computed with as they are. */
  readonly repacked?: RepackedFile;
}

/** The part of a model file that determines the sizes of its networks. */
export type SizedFile = Pick<ModelHandle, "checkpoint">;

/** How a model is opened. */
export interface Opening {
  /** May know the file already, which holds a whole model. */
  readonly open?: (place: string) => Promise<Identified>;
}

/** Reads the headers of a model file or folder, from which nothing is repacked yet: see readyModel. Throws QEDIT_E_MODEL_MISSING if it is not there, QEDIT_E_CHECKPOINT if it cannot be run as this role. */
export async function openModel(
  path: string,
  role: ModelRole,
  { open = openIdentified }: Opening = {},
): Promise<ModelHandle> {
  const { part } = MODEL_ROLES[role];
  const find = () => placeOfPart(path, part);
  const place = await find();
  const { checkpoint: stored, identity, stamps, lookups, states } = await open(place);
  // Under the published keys first: of a file that holds a whole model, a part is repacked.
  const own = publishedNames(stored, part);
  const repacked = repackedFile(own, `${identity}-${part}`);
  const checkpoint = repacked?.layout.checkpoint ?? own;
  const { warning } = reviewPart(checkpoint, part);
  if (!repacked) await refuseImplausibleWeights(checkpoint);
  return {
    checkpoint,
    config: checkpointConfig(checkpoint),
    identity,
    stamps,
    lookups: [{ found: place, again: find }, ...lookups],
    states,
    name: basename(checkpoint.file),
    ...(warning !== undefined && { warning }),
    ...(repacked && { repacked }),
  };
}

/** A model that can be computed with: its weights are repacked where they must be, by `repack`. Throws what that throws, and QEDIT_E_CHECKPOINT. */
export async function readyModel(
  file: ModelHandle,
  repack: (repacked: RepackedFile) => Promise<void>,
): Promise<ModelHandle> {
  const { repacked, checkpoint, stamps } = file;
  if (!repacked) return file;
  await repack(repacked);
  await refuseImplausibleWeights(checkpoint);
  return { ...file, stamps: new Map([...stamps, [repacked.path, await stampAt(repacked.path)]]) };
}

/** Opens a file or folder of weights, its keys as they are stored. Throws as openModel. */
export function openIdentified(place: string): Promise<Identified> {
  return identified((options) => openCheckpoint(place, options));
}

/** Weights for reading shapes before a network's graph is built. */
export function numbersOf(checkpoint: Checkpoint): Weights {
  return Weights.of(new Graph("numbers"), checkpoint);
}

/** What determines a graph: equal parts give equal graphs. */
interface GraphParts {
  readonly network: NetworkId;
  readonly file: ModelHandle;
  readonly loras?: readonly MatchedLora[];
  /** Everything else that determines it, as JSON: the compute type. */
  readonly others?: unknown;
}

/** A network's serialized graph, memoized by its parts if the context can. */
export async function networkModel(
  { memoize }: StageContext,
  { network, file, loras = [], others }: GraphParts,
  build: () => Promise<Model>,
): Promise<Model> {
  const files = [[file.checkpoint.file, file.identity], ...loras.map((lora) => [lora.file, lora.identity])];
  const stamps = stampsOf(file, loras);
  // A graph has the paths of its weights, links resolved: those of a link that was pointed at a copy may be gone.
  const model = memoize ? memoize(JSON.stringify([network, files, [...stamps], others]), build) : build();
  return { ...(await model), stamps };
}

/** The files of a model and LoRAs as they were when their headers were read. */
export function stampsOf({ stamps }: ModelHandle, loras: readonly MatchedLora[]): FileStamps {
  return new Map([stamps, ...loras.map((lora) => lora.stamps)].flatMap((each) => [...each]));
}
