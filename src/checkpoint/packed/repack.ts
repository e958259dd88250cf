// Writes the weights of a GGUF file in the form that ONNX Runtime multiplies by: exactly, block by block. Blocks of GGUF hold scales and codes in turn,
// which a tensor's one range of bytes cannot express.
import { type FileHandle, open } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readRange } from "../../std/files.js";
import { shown } from "../../std/foreign-text.js";
import { STORED_BYTES } from "../checkpoint.js";
import { type BlockType, blockTypeOf, type UnpackedBlocks } from "../gguf/block-types.js";
import type { RepackedLayout, RepackedTensor } from "./packed-layout.js";

/** Bytes that are read and repacked at a time, about. */
const CHUNK_BYTES = 4 * 2 ** 20;
const F16_EXPONENT = 0x7c00;

/** How the work is followed. */
export interface Following {
  readonly signal?: AbortSignal | undefined;
  /** Takes the bytes written so far. */
  readonly onProgress?: (done: number) => void;
}

/** Writes a layout's file to an open, empty one. Throws QEDIT_E_CHECKPOINT for scales that are not finite, QEDIT_E_IO, and the signal's reason. */
export async function writeRepacked(
  to: FileHandle,
  { header, tensors }: RepackedLayout,
  { signal, onProgress }: Following = {},
): Promise<void> {
  const sources = new Map<string, FileHandle>();
  const sourceOf = async (file: string) => {
    const known = sources.get(file);
    if (known) return known;
    const handle = await open(file).catch((error: unknown) => {
      throw ioFailure("read", file, error);
    });
    sources.set(file, handle);
    return handle;
  };
  let done = header.length;
  try {
    await to.write(header, 0, header.length, 0);
    for (const tensor of tensors) {
      const parts = tensor.from.joinedFrom?.parts ?? [tensor.from];
      const handle = await sourceOf(parts[0]!.file);
      const onBytes = (bytes: number) => {
        done += bytes;
        onProgress?.(done);
      };
      const write = { to, start: done, onBytes, signal };
      await (tensor.from.joinedFrom?.axis === 2 ? writeFrames : writeRows)(tensor, handle, write);
    }
  } finally {
    for (const handle of sources.values()) await handle.close();
  }
}

interface Target {
  readonly to: FileHandle;
  /** Where the tensor's first part begins. */
  readonly start: number;
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal | undefined;
}

async function writeRows({ name, from, entries }: RepackedTensor, source: FileHandle, target: Target): Promise<void> {
  const type = blockTypeOf(from.dtype);
  const places = startsOf(entries, target.start);
  for (const part of from.joinedFrom?.parts ?? [from]) {
    const unit = type?.bytes ?? 1;
    const most = Math.max(1, Math.floor(CHUNK_BYTES / unit)) * unit;
    for (let at = 0; at < part.length; at += most) {
      target.signal?.throwIfAborted();
      const bytes = await readRange(source, part.offset + at, Math.min(most, part.length - at)).catch((error) => {
        throw ioFailure("read", part.file, error);
      });
      const pieces = type === undefined ? [bytes] : unpacked(bytes, type, { name, file: part.file });
      for (const [index, piece] of pieces.entries()) {
        await target.to.write(piece, 0, piece.length, places[index]!);
        places[index]! += piece.length;
        target.onBytes(piece.length);
      }
    }
  }
}

// Parts that become an axis of their own behind two others: [a, b, …] twice is [a, b, 2, …].
async function writeFrames({ from, entries }: RepackedTensor, source: FileHandle, target: Target): Promise<void> {
  const { parts } = from.joinedFrom!;
  const frames = await Promise.all(parts.map(({ offset, length }) => readRange(source, offset, length)));
  const [a, b, ...inner] = parts[0]!.shape as [number, number, ...number[]];
  const width = inner.reduce((product, dim) => product * dim, STORED_BYTES[from.dtype]);
  const joined = new Uint8Array(from.length);
  for (let place = 0; place < a * b; place += 1)
    for (const [frame, bytes] of frames.entries())
      joined.set(bytes.subarray(place * width, (place + 1) * width), (place * frames.length + frame) * width);
  await target.to.write(joined, 0, joined.length, startsOf(entries, target.start)[0]!);
  target.onBytes(joined.length);
}

function startsOf(entries: RepackedTensor["entries"], start: number): number[] {
  let at = start;
  return entries.map(({ dtype, shape }) => {
    const place = at;
    at += shape.reduce((product, dim) => product * dim, STORED_BYTES[dtype]);
    return place;
  });
}

/** The bytes of the parts of blocks, in the order of their entries. */
function unpacked(bytes: Uint8Array, type: BlockType, where: { name: string; file: string }): Uint8Array[] {
  const blocks = bytes.length / type.bytes;
  const to = emptyBlocks(type, blocks);
  for (let index = 0; index < blocks; index += 1) type.unpack(bytes, index * type.bytes, to, index);
  const { codes, scales, superScales, offsets, superOffsets } = to;
  for (const each of [superScales ?? scales, superOffsets ?? offsets]) {
    if (each instanceof Uint16Array && each.some((bits) => (bits & F16_EXPONENT) === F16_EXPONENT))
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use "${shown(where.name)}" in ${where.file}: a block has a scale that is not finite`,
        { hint: "The file is damaged: download it again" },
      );
  }
  const parts = [type.bits === 4 ? halves(codes) : codes, scales, superScales, offsets, superOffsets];
  return parts.flatMap((part) => (part ? new Uint8Array(part.buffer, part.byteOffset, part.byteLength) : []));
}

function emptyBlocks(type: BlockType, blocks: number): UnpackedBlocks {
  const count = (blocks * type.elements) / type.block;
  const numbers = () => (type.scales === "F16" ? new Uint16Array(count) : new Uint8Array(count));
  const superNumbers = () => (type.scales === "F16" ? undefined : new Uint16Array(blocks));
  return {
    codes: new Uint8Array(blocks * type.elements),
    scales: numbers(),
    superScales: superNumbers(),
    offsets: type.hasOffsets ? numbers() : undefined,
    superOffsets: type.hasOffsets ? superNumbers() : undefined,
  };
}

/** Two codes of four bits in a byte, the first one its lower half. */
export function halves(codes: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(codes.length / 2);
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = codes[2 * index]! | (codes[2 * index + 1]! << 4);
  return bytes;
}
