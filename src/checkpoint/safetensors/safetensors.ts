// Reads the header of a .safetensors file: names, types, shapes and byte ranges; the weights stay where they are.

import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readRange } from "../../std/files.js";
import type { Checkpoint } from "../checkpoint.js";
import { headerLength, LENGTH_BYTES, metadataObject, parseHeader, refusal, type Source } from "./safetensors-header.js";

/** Enough of the start of a file to name the format of one that is not safetensors. */
const MAGIC_BYTES = 64;
/** Bytes of a layer's format, which is one short JSON object. */
const LONGEST_FORMAT = 4096;

/** The checkpoint identity samples this many blocks of this many bytes: about 1 MiB, some milliseconds on a solid-state disk. */
const IDENTITY_BLOCKS = 256;
const IDENTITY_BLOCK_BYTES = 4096;

/** How a file's header is read. */
export interface ReadOptions {
  /** Receives what identifies the file's weights (see checkpointIdentity), while it is open for its header. */
  readonly identity?: Hash;
}

/**
 * The tensors of a .safetensors file, from its header only. Throws QEDIT_E_MODEL_MISSING when there is no such file and
 * QEDIT_E_CHECKPOINT when it is not a complete, well-formed safetensors file.
 */
export async function readSafetensors(path: string, { identity }: ReadOptions = {}): Promise<Checkpoint> {
  const source = await locate(path);
  try {
    const handle = await open(source.file);
    try {
      const length = headerLength(await readRange(handle, 0, Math.min(source.size, MAGIC_BYTES)), source);
      const start = await readRange(handle, 0, LENGTH_BYTES + length);
      const checkpoint = parseHeader(start.subarray(LENGTH_BYTES), source);
      if (identity) await updateIdentity(identity, handle, { start, size: source.size });
      const layerFormats = await readLayerFormats(checkpoint, handle);
      return layerFormats.length === 0 ? checkpoint : { ...checkpoint, layerFormats };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", path, error);
  }
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

/**
 * A hexadecimal SHA-256 that identifies weights: over each file's length, its header with the 8 length bytes, and 256 blocks of 4096
 * bytes spread evenly over its data, the first and the last included. It does not depend on names or times. It is an identity and not
 * an integrity check: damage between the blocks goes unseen.
 */
export async function checkpointIdentity(checkpoint: Checkpoint): Promise<string> {
  const files = new Set([...checkpoint.tensors.values()].map((stored) => stored.file));
  const hash = createHash("sha256");
  for (const file of files.size > 0 ? files : [checkpoint.file]) {
    try {
      const handle = await open(file);
      try {
        const { size } = await handle.stat();
        const length = headerLength(await readRange(handle, 0, Math.min(size, MAGIC_BYTES)), {
          name: file,
          file,
          size,
        });
        await updateIdentity(hash, handle, { start: await readRange(handle, 0, LENGTH_BYTES + length), size });
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw ioFailure("read", file, error);
    }
  }
  return hash.digest("hex");
}

async function updateIdentity(
  hash: Hash,
  handle: FileHandle,
  { start, size }: { readonly start: Uint8Array; readonly size: number },
): Promise<void> {
  hash.update(`${size}\n`).update(start);
  for (const at of sampleStarts(start.length, size)) {
    hash.update(await readRange(handle, at, Math.min(IDENTITY_BLOCK_BYTES, size - at)));
  }
}

/** The JSON object under the metadata key `config`, empty when there is none; throws QEDIT_E_CHECKPOINT when it is no JSON object. */
export function checkpointConfig(checkpoint: Checkpoint): Record<string, unknown> {
  const text = checkpoint.metadata["config"];
  if (text === undefined) return {};
  const value = metadataObject(text);
  if (value === undefined) throw refusal(checkpoint.file, 'metadata "config" is not a JSON object');
  return value;
}

async function locate(path: string): Promise<Source> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw refusal(path, "it is a folder", "Name the .safetensors file in it");
    if (!found.isFile()) throw refusal(path, "it is not a regular file");
    return { name: path, file: await realpath(path), size: found.size };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${path}`, { hint: "Check the path", cause: error });
    }
    throw ioFailure("read", path, error);
  }
}

/** Starts of the sampled blocks; small data is read whole. */
function sampleStarts(dataStart: number, size: number): number[] {
  const room = size - dataStart - IDENTITY_BLOCK_BYTES;
  if (room <= IDENTITY_BLOCKS * IDENTITY_BLOCK_BYTES) {
    return Array.from(
      { length: Math.ceil((size - dataStart) / IDENTITY_BLOCK_BYTES) },
      (_, i) => dataStart + i * IDENTITY_BLOCK_BYTES,
    );
  }
  return Array.from({ length: IDENTITY_BLOCKS }, (_, i) => dataStart + Math.floor((room * i) / (IDENTITY_BLOCKS - 1)));
}
