// The tensor files between stages: .safetensors with a JSON record of what made them, and the same record beside it to read.

import { createHash } from "node:crypto";
import { join, parse } from "node:path";
import type { Checkpoint, StoredTensor } from "../checkpoint/checkpoint.js";
import { readTensor } from "../checkpoint/read-tensor.js";
import { decodeSafetensors, readSafetensors } from "../checkpoint/safetensors/safetensors.js";
import { encodeSafetensors } from "../checkpoint/safetensors/safetensors-writer.js";
import { toFloat32 } from "../checkpoint/stored-numbers.js";
import { QeditError } from "../std/errors.js";
import { writeFileAtomically } from "../std/files.js";
import type { Tensor } from "../std/tensor.js";
import { float32, tensor } from "../std/tensor.js";
import { fromComfyLatent, LATENT_TENSOR, MARKER, toComfyLatent, withoutFrame } from "./comfyui-latent.js";
import type { ArtifactKind } from "./kinds.js";
import { type ArtifactTensorType, artifactTensorType, KINDS, tensorFault } from "./kinds.js";
import { positionsFault } from "./picture-positions.js";
import { type ArtifactInfo, artifactRecord, parseRecord } from "./record.js";

export type { ArtifactInfo } from "./record.js";

/** The tensors that one stage hands to the next, named and shaped as KINDS says; a latent is [1, channels, h, w]. */
export interface Artifact {
  readonly kind: ArtifactKind;
  readonly tensors: ArtifactTensors;
  readonly info: ArtifactInfo;
}

/** The tensors of an artifact by name: float32, but for the numbers that KINDS calls int32. */
export type ArtifactTensors = Readonly<Record<string, Tensor<ArtifactTensorType>>>;

/** A float32 tensor of an artifact; undefined where it has none of that name. */
export function floatTensor({ tensors }: Artifact, name: string): Tensor<"float32"> | undefined {
  const found = tensors[name];
  if (found !== undefined && found.type !== "float32") throw new Error(`internal: "${name}" is ${found.type}`);
  return found as Tensor<"float32"> | undefined;
}

/** Metadata key of the JSON record; `kind` and `version` stand beside it for other tools. */
const RECORD_KEY = "qedit";

const NO_INFO: ArtifactInfo = { settings: {}, sizes: {}, inputs: {}, weights: {} };

/** Far above latents, which lie within 50, and embeddings, within some thousands. */
const LARGEST_VALUE = 1e6;

/** Other tools save tensors in the type that they computed them in. */
const FOREIGN_TYPES = ["F32", "F16", "BF16"];

/**
 * Writes an artifact, and its record as indented JSON beside it under the same name with `.json`. Throws QEDIT_E_BAD_OUTPUT when a tensor
 * holds NaN or infinity, QEDIT_E_ARTIFACT when path itself ends in `.json`, QEDIT_E_IO, QEDIT_E_EXISTS unless overwriting.
 */
export async function writeArtifact(
  path: string,
  artifact: Artifact,
  options: { overwrite?: boolean } = {},
): Promise<void> {
  const recordAt = recordPath(path);
  await writeFileAtomically(path, encodeArtifact(artifact), options);
  await writeFileAtomically(recordAt, new TextEncoder().encode(readableRecord(artifact)), options);
}

/** The text of the record that stands beside an artifact's file. */
export function readableRecord(artifact: Artifact): string {
  return `${JSON.stringify(recordOf(artifact), null, 2)}\n`;
}

/** Path of the readable record of the artifact at `path`. Throws QEDIT_E_ARTIFACT when path itself ends in `.json`. */
export function recordPath(path: string): string {
  const { dir, name, ext } = parse(path);
  if (ext === ".json") {
    throw new QeditError("QEDIT_E_ARTIFACT", `Cannot write an artifact to ${path}: its record goes there`, {
      hint: `Name it ${name}.safetensors`,
    });
  }
  return join(dir, `${name}.json`);
}

/** The bytes of an artifact's .safetensors file, with other metadata beside its own. Throws QEDIT_E_BAD_OUTPUT when a tensor holds NaN or infinity. */
export function encodeArtifact(
  artifact: Artifact,
  others: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const { kind, tensors } = artifact;
  const fault = tensorFault(kind, new Map(Object.entries(tensors).map(([name, { shape }]) => [name, shape])));
  if (fault !== undefined) throw new Error(`internal: cannot write ${kind}: ${fault}`);
  for (const [name, { type, data }] of Object.entries(tensors)) {
    const bad = type === "float32" ? notFinite(data as Float32Array) : undefined;
    if (bad !== undefined) {
      throw new QeditError("QEDIT_E_BAD_OUTPUT", `Cannot write ${kind}: tensor "${name}" holds ${bad}`, {
        hint: "Choose a wider compute type",
      });
    }
  }
  const metadata = {
    kind,
    version: String(KINDS[kind].version),
    [RECORD_KEY]: recordText(artifact),
    ...others,
  };
  return encodeSafetensors(kind === "samples" ? toComfyLatent(tensors) : tensors, metadata);
}

/** Hexadecimal SHA-256 of everything an artifact holds, its record included. Throws QEDIT_E_BAD_OUTPUT when a tensor holds NaN or infinity. */
export function artifactHash(artifact: Artifact): string {
  return createHash("sha256").update(encodeArtifact(artifact)).digest("hex");
}

/**
 * Reads an artifact of the wanted kind, or a file of another tool with the same tensors, whose info is empty; for samples that is
 * ComfyUI's SaveLatent. Throws
 * QEDIT_E_ARTIFACT, or QEDIT_E_BAD_OUTPUT when a tensor holds NaN or infinity, with the command that makes the right file as hint.
 */
export async function readArtifact(path: string, kind: ArtifactKind): Promise<Artifact> {
  const checkpoint = await readSafetensors(path).catch((error: unknown) => {
    throw asArtifactError(error, kind);
  });
  return toArtifact(checkpoint, kind, readTensor);
}

/** The artifact in bytes, such as those of standard input; name is for messages. Throws as readArtifact. */
export async function decodeArtifact(
  bytes: Uint8Array,
  { kind, name }: { kind: ArtifactKind; name: string },
): Promise<Artifact> {
  const read = ({ dtype, offset, length }: StoredTensor) => toFloat32(dtype, bytes.slice(offset, offset + length));
  try {
    return await toArtifact(decodeSafetensors(bytes, name), kind, read);
  } catch (error) {
    throw asArtifactError(error, kind);
  }
}

/** What an artifact is made of where it is no file: its tensors, and its record as text. */
export interface ArtifactParts {
  readonly tensors: ArtifactTensors;
  /** undefined: its tensors are another tool's. */
  readonly record: string | undefined;
  /** For messages. */
  readonly name: string;
}

/** The artifact of tensors that came without a file. Throws as readArtifact. */
export function artifactOfParts(kind: ArtifactKind, { tensors: given, record, name: file }: ArtifactParts): Artifact {
  const tensors = Object.fromEntries(
    Object.entries(given).map(([name, each]) => {
      const shape = kind === "samples" ? withoutFrame(each.shape) : each.shape;
      return [name, { ...each, shape }];
    }),
  );
  const wrong = Object.entries(tensors).find(([name, { type }]) => type !== artifactTensorType(kind, name));
  const fault =
    tensorFault(kind, new Map(Object.entries(tensors).map(([name, { shape }]) => [name, shape]))) ??
    (wrong && `tensor "${wrong[0]}" wanted ${artifactTensorType(kind, wrong[0])}, found ${wrong[1].type}`) ??
    positionsFault(tensors);
  if (fault !== undefined) throw unusable(file, kind, fault);
  for (const [name, { type, data }] of Object.entries(tensors))
    if (type === "float32") refuseBadValues(data as Float32Array, { file, kind, name });
  return { kind, tensors, info: record === undefined ? NO_INFO : ownInfo({ file, record }, kind) };
}

/** The record of an artifact as the text that its file carries. */
export function recordText(artifact: Artifact): string {
  return JSON.stringify(recordOf(artifact));
}

type ReadValues = (stored: StoredTensor) => Float32Array<ArrayBuffer> | Promise<Float32Array<ArrayBuffer>>;

async function toArtifact(checkpoint: Checkpoint, kind: ArtifactKind, read: ReadValues): Promise<Artifact> {
  const { file } = checkpoint;
  const isForeign = checkpoint.metadata[RECORD_KEY] === undefined;
  const info = isForeign ? NO_INFO : ownInfo({ file, record: checkpoint.metadata[RECORD_KEY] }, kind);
  const names =
    isForeign && kind === "samples"
      ? [LATENT_TENSOR]
      : [...checkpoint.tensors.keys()].filter((name) => !(kind === "samples" && name === MARKER));
  const stored = names.flatMap((name) => {
    const found = checkpoint.tensors.get(name);
    return found === undefined
      ? []
      : [{ name, found, shape: kind === "samples" ? withoutFrame(found.shape) : found.shape }];
  });
  const fault =
    tensorFault(kind, new Map(stored.map(({ name, shape }) => [name, shape]))) ??
    typeFault(stored, (name) => storedTypes(artifactTensorType(kind, name), isForeign));
  if (fault !== undefined) throw unusable(file, kind, isForeign ? `it was not written by qedit, and ${fault}` : fault);
  if (kind === "samples" && !isForeign && !checkpoint.tensors.has(MARKER))
    throw unusable(file, kind, `it lacks the tensor "${MARKER}"`);

  const tensors: Record<string, Tensor<ArtifactTensorType>> = {};
  for (const { name, found, shape } of stored) {
    const values = await read(found);
    if (artifactTensorType(kind, name) === "int32") {
      tensors[name] = tensor("int32", shape, Int32Array.from(values));
      continue;
    }
    const given = name === LATENT_TENSOR ? fromComfyLatent(values, checkpoint.tensors) : float32(shape, values);
    // What is stored as infinity is told as that; what only becomes it is too large.
    refuseBadValues(values, { file, kind, name, used: given.data });
    tensors[name] = given;
  }
  const misplaced = positionsFault(tensors);
  if (misplaced !== undefined) throw unusable(file, kind, misplaced);
  return { kind, tensors, info };
}

function refuseBadValues(
  values: Float32Array,
  { file, kind, name, used = values }: { file: string; kind: ArtifactKind; name: string; used?: Float32Array },
): void {
  const bad = notFinite(values) ?? tooLarge(used);
  if (bad === undefined) return;
  throw new QeditError("QEDIT_E_BAD_OUTPUT", `Cannot use ${file} as ${kind}: tensor "${name}" holds ${bad}`, {
    hint: remedy(kind),
  });
}

/** The info of a record, once its kind and version are those wanted. */
function ownInfo(
  { file, record: text }: { readonly file: string; readonly record: string | undefined },
  kind: ArtifactKind,
): ArtifactInfo {
  const record = text === undefined ? undefined : parseRecord(artifactRecord, text);
  if (record === undefined) throw unusable(file, kind, `its metadata "${RECORD_KEY}" is not a record of qedit`);
  if (record.kind !== kind) throw unusable(file, kind, `it holds ${record.kind}`);
  const { version } = KINDS[kind];
  if (record.version !== version) {
    const hint = record.version > version ? `Update qedit, or run \`${KINDS[kind].command}\` again` : remedy(kind);
    throw unusable(file, kind, `it has version ${record.version}, this qedit reads version ${version}`, hint);
  }
  const { settings, sizes, inputs, weights, names } = record;
  return { settings, sizes, inputs, weights, ...(names && { names }) };
}

function recordOf({ kind, info: { settings, sizes, inputs, weights, names } }: Artifact): object {
  return { kind, version: KINDS[kind].version, settings, sizes, inputs, weights, ...(names && { names }) };
}

function storedTypes(type: ArtifactTensorType, isForeign: boolean): readonly string[] {
  if (type === "int32") return ["I32"];
  return isForeign ? FOREIGN_TYPES : ["F32"];
}

function typeFault(
  stored: readonly { name: string; found: StoredTensor }[],
  typesOf: (name: string) => readonly string[],
): string | undefined {
  const wrong = stored.find(({ name, found }) => !typesOf(name).includes(found.dtype));
  return wrong && `tensor "${wrong.name}" wanted ${typesOf(wrong.name).join(" or ")}, found ${wrong.found.dtype}`;
}

/** The first value that is not finite and where, in words. */
function notFinite(values: Float32Array): string | undefined {
  const at = values.findIndex((value) => !Number.isFinite(value));
  return at < 0 ? undefined : `${values[at]} at element ${at}`;
}

// The networks would make NaN of them.
function tooLarge(values: Float32Array): string | undefined {
  const at = values.findIndex((value) => Math.abs(value) > LARGEST_VALUE);
  return at < 0 ? undefined : `${values[at]} at element ${at}, more than ${LARGEST_VALUE}`;
}

function asArtifactError(error: unknown, kind: ArtifactKind): unknown {
  const isFileFault =
    error instanceof QeditError && (error.code === "QEDIT_E_CHECKPOINT" || error.code === "QEDIT_E_MODEL_MISSING");
  return isFileFault ? new QeditError("QEDIT_E_ARTIFACT", error.message, { hint: remedy(kind), cause: error }) : error;
}

function unusable(file: string, kind: ArtifactKind, reason: string, hint = remedy(kind)): QeditError {
  return new QeditError("QEDIT_E_ARTIFACT", `Cannot use ${file} as ${kind}: ${reason}`, { hint });
}

function remedy(kind: ArtifactKind): string {
  return `Run \`${KINDS[kind].command}\``;
}
