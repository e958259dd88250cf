// Reads the header of a .safetensors file: names, types, shapes and byte ranges; the weights stay where they are.

import type { FileHandle } from "node:fs/promises";
import { readRange } from "../../std/files.js";
import { shown } from "../../std/foreign-text.js";
import { isObject } from "../../std/guards.js";
import type { Checkpoint } from "../checkpoint.js";
import type { WeightsIdentity } from "../file-identity.js";
import { type Source, withLocated } from "../located-file.js";
import { withPacked } from "../packed/packed-file.js";
import { rotationOf } from "../packed-formats.js";
import { headerLength, LENGTH_BYTES, metadataObject, parseHeader, refusal } from "./safetensors-header.js";

/** Enough of the start of a file to name the format of one that is not safetensors. */
const MAGIC_BYTES = 64;
/** Bytes of a layer's format, which is one short JSON object. */
const LONGEST_FORMAT = 4096;

/** How a file's header is read. */
export interface ReadOptions {
  /** Receives what identifies the file's weights (see Identified), while it is open for its header. */
  readonly identity?: WeightsIdentity;
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
  if (identity) await identity.take({ handle, ...source, start });
  const formats = await readLayerFormats(checkpoint, handle);
  const [rotated, layerFormats] = [withRotations(checkpoint, formats), [...new Set(formats.values())]];
  return withPacked(layerFormats.length === 0 ? rotated : { ...rotated, layerFormats });
}

// ComfyUI writes the format of each layer into a tensor of bytes beside its weight.
async function readLayerFormats({ tensors }: Checkpoint, handle: FileHandle): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const [name, { offset, length }] of tensors) {
    if (!name.endsWith(".comfy_quant")) continue;
    found.set(
      name.slice(0, -".comfy_quant".length),
      new TextDecoder().decode(await readRange(handle, offset, Math.min(length, LONGEST_FORMAT))),
    );
  }
  return found;
}

// Says of each weight how its columns are rotated: by the text beside it, or by the file's own metadata.
function withRotations(checkpoint: Checkpoint, formats: ReadonlyMap<string, string>): Checkpoint {
  const described = metadataObject(checkpoint.metadata["_quantization_metadata"])?.["layers"];
  const layers = [
    ...(isObject(described) ? Object.entries(described) : []),
    ...[...formats].map(([module, text]) => [module, metadataObject(text)] as const),
  ];
  const tensors = new Map(checkpoint.tensors);
  for (const [module, layer] of layers) {
    const group = rotationOf(layer);
    if (group === undefined) continue;
    const name = weightNamed(module, tensors);
    const weight = tensors.get(name ?? "");
    if (name === undefined || weight === undefined || (weight.shape[1] ?? 0) % group !== 0)
      throw refusal(checkpoint.file, `the layer "${shown(module)}" is rotated, and no weight fits that`);
    tensors.set(name, { ...weight, rotated: group });
  }
  return { ...checkpoint, tensors };
}

// The file's own metadata names layers without the prefix that its tensors may have.
function weightNamed(module: string, tensors: Checkpoint["tensors"]): string | undefined {
  const name = `${module}.weight`;
  return tensors.has(name) ? name : [...tensors.keys()].find((each) => each.endsWith(`.${name}`));
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
