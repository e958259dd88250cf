// Reads the header of a .safetensors file: names, types, shapes and byte ranges; the weights stay where they are.

import type { Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { readRange } from "../../std/files.js";
import type { Checkpoint } from "../checkpoint.js";
import { updateIdentity } from "../file-identity.js";
import { type Source, withLocated } from "../located-file.js";
import { withPacked } from "../packed/packed-file.js";
import { headerLength, LENGTH_BYTES, metadataObject, parseHeader, refusal } from "./safetensors-header.js";

/** Enough of the start of a file to name the format of one that is not safetensors. */
const MAGIC_BYTES = 64;
/** Bytes of a layer's format, which is one short JSON object. */
const LONGEST_FORMAT = 4096;

/** How a file's header is read. */
export interface ReadOptions {
  /** Receives what identifies the file's weights (see Identified), while it is open for its header. */
  readonly identity?: Hash;
}

/**
 * The tensors of a .safetensors file, from its header only. Throws QEDIT_E_MODEL_MISSING when there is no such file and
 * QEDIT_E_CHECKPOINT when it is not a complete, well-formed safetensors file.
 */
export async function readSafetensors(path: string, options: ReadOptions = {}): Promise<Checkpoint> {
  return withLocated(path, (handle, source) => readSafetensorsOf(handle, source, options));
}

/** The tensors of an open .safetensors file. Throws as readSafetensors. */
export async function readSafetensorsOf(
  handle: FileHandle,
  source: Source,
  { identity }: ReadOptions,
): Promise<Checkpoint> {
  const length = headerLength(await readRange(handle, 0, Math.min(source.size, MAGIC_BYTES)), source);
  const start = await readRange(handle, 0, LENGTH_BYTES + length);
  const checkpoint = parseHeader(start.subarray(LENGTH_BYTES), source);
  if (identity) await updateIdentity(identity, handle, { start, size: source.size });
  const layerFormats = await readLayerFormats(checkpoint, handle);
  return withPacked(layerFormats.length === 0 ? checkpoint : { ...checkpoint, layerFormats });
}

// ComfyUI writes the format of each layer into a tensor of bytes beside its weight.
async function readLayerFormats({ tensors }: Checkpoint, handle: FileHandle): Promise<string[]> {
  const found = new Set<string>();
  for (const [name, { offset, length }] of tensors) {
    if (!name.endsWith(".comfy_quant")) continue;
    found.add(new TextDecoder().decode(await readRange(handle, offset, Math.min(length, LONGEST_FORMAT))));
  }
  return [...found];
}

/** The tensors of safetensors bytes in memory; their offsets count from the start of bytes. Throws as readSafetensors, naming name. */
export function decodeSafetensors(bytes: Uint8Array, name: string): Checkpoint {
  const source = { name, file: name, size: bytes.length };
  const length = headerLength(bytes.subarray(0, MAGIC_BYTES), source);
  return parseHeader(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length), source);
}

/** The JSON object under the metadata key `config`, empty when there is none; throws QEDIT_E_CHECKPOINT when it is no JSON object. */
export function checkpointConfig(checkpoint: Checkpoint): Record<string, unknown> {
  const text = checkpoint.metadata["config"];
  if (text === undefined) return {};
  const value = metadataObject(text);
  if (value === undefined) throw refusal(checkpoint.file, 'metadata "config" is not a JSON object');
  return value;
}
