// Where the weights of a GGUF file will lie once they are repacked: known from its header, so that a plan needs no repacking.
import { join } from "node:path";
import { folderFor } from "../../std/own-folders.js";
import type { Checkpoint, StoredTensor, StoredType } from "../checkpoint.js";
import { STORED_BYTES } from "../checkpoint.js";
import { type BlockTypeName, blockTypeOf } from "../gguf/block-types.js";
import { encodeHeader, type HeaderEntry } from "../safetensors/safetensors-writer.js";
import { PART_NAMES, type PackedForm, packedMetadata, SUPER_OF, withPacked } from "./packed-file.js";

/** One tensor of a file that is written: what it is made of, and the entries that it becomes. */
export interface RepackedTensor {
  readonly name: string;
  readonly from: StoredTensor;
  /** Its parts in the order in which they lie in the file: one, or those of packed weights. */
  readonly entries: readonly HeaderEntry[];
}

/** A repacked file before it is there. */
export interface RepackedLayout {
  /** The first part of the file: its length, then the header. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly tensors: readonly RepackedTensor[];
  /** Bytes of the whole file. */
  readonly bytes: number;
  /** The checkpoint that can be computed with: what is not repacked stays in the original file. */
  readonly checkpoint: Checkpoint;
}

/** A repacked file, there or not, and what it holds. */
export interface RepackedFile {
  readonly path: string;
  readonly layout: RepackedLayout;
}

/** Where repacked files lie. */
export function repackedFolder(): string {
  return join(folderFor("data"), "repacked");
}

/** The repacked file of a checkpoint, under a name that identifies its weights; undefined for one that can be computed with as it is. */
export function repackedFile(checkpoint: Checkpoint, name: string): RepackedFile | undefined {
  if (![...checkpoint.tensors.values()].some(isRaw)) return undefined;
  const path = join(repackedFolder(), `${name}.safetensors`);
  return { path, layout: repackedLayout(checkpoint, path) };
}

/** A checkpoint as it is computed with, whether or not it is repacked yet: for what its header says. */
export function asComputed(checkpoint: Checkpoint): Checkpoint {
  return repackedFile(checkpoint, "not-made")?.layout.checkpoint ?? checkpoint;
}

/** Whether a tensor is as GGUF has it: blocks with scales and codes in turn, or parts of what the model has as one. */
export function isRaw({ dtype, packed, joinedFrom }: StoredTensor): boolean {
  return packed === undefined && (joinedFrom !== undefined || blockTypeOf(dtype) !== undefined);
}

/** The layout of a checkpoint's repacked tensors in the file at `path`. */
export function repackedLayout(checkpoint: Checkpoint, path: string): RepackedLayout {
  const forms = new Map<string, PackedForm>();
  const tensors = [...checkpoint.tensors]
    .filter(([, stored]) => isRaw(stored))
    .map(([name, from]): RepackedTensor => {
      const type = blockTypeOf(from.dtype);
      if (type === undefined) return { name, from, entries: [{ name, dtype: from.dtype, shape: from.shape }] };
      forms.set(name, { type: from.dtype as BlockTypeName, bits: type.bits, block: type.block, zero: type.zero });
      return { name, from, entries: packedEntries(name, from) };
    });
  const entries = tensors.flatMap((tensor) => tensor.entries);
  const metadata = packedMetadata(forms);
  const { header, dataBytes } = encodeHeader(entries, metadata, { isOrdered: true });
  const written = withPacked({ file: path, tensors: placed(entries, { file: path, start: header.length }), metadata });
  const all = new Map([...checkpoint.tensors].map(([name, stored]) => [name, written.tensors.get(name) ?? stored]));
  return {
    header,
    tensors,
    bytes: header.length + dataBytes,
    checkpoint: { ...checkpoint, tensors: all },
  };
}

// Codes, then scales and offsets, which a read of the weight wants together.
function packedEntries(name: string, { dtype, shape }: StoredTensor): readonly HeaderEntry[] {
  const type = blockTypeOf(dtype)!;
  const columns = shape.at(-1)!;
  const rows = shape.slice(0, -1).reduce((product, dim) => product * dim, 1);
  const hasSuperBlocks = type.scales !== "F16";
  const blocks = (suffix: string, stored: StoredType, count: number): HeaderEntry => ({
    ...{ name: name + suffix, dtype: stored },
    shape: [rows, count],
  });
  const numbers = (kind: "scales" | "offsets") => [
    blocks(PART_NAMES[kind], type.scales, columns / type.block),
    ...(hasSuperBlocks ? [blocks(PART_NAMES[SUPER_OF[kind]], "F16", columns / type.elements)] : []),
  ];
  return [
    { name, dtype: "U8", shape: [rows, (columns * type.bits) / 8] },
    ...numbers("scales"),
    ...(type.hasOffsets ? numbers("offsets") : []),
  ];
}

function placed(
  entries: readonly HeaderEntry[],
  { file, start }: { file: string; start: number },
): ReadonlyMap<string, StoredTensor> {
  let offset = start;
  return new Map(
    entries.map(({ name, dtype, shape }) => {
      const length = shape.reduce((product, dim) => product * dim, STORED_BYTES[dtype]);
      const stored: StoredTensor = { dtype, shape, file, offset, length };
      offset += length;
      return [name, stored];
    }),
  );
}
