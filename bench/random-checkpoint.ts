// Writes checkpoints of the published shapes with random weights at the speed of the disk: all tensors repeat one block of normal noise,
// each from another offset. The block's length is coprime to all row lengths, so no two rows are equal.
import { type FileHandle, open } from "node:fs/promises";
import type { StoredType } from "../src/checkpoint/checkpoint.js";
import { encodeHeader, type HeaderEntry } from "../src/checkpoint/safetensors/safetensors-writer.js";
import { randn } from "../src/sampling/noise/noise.js";
import { toBfloat16, toFloat8E4M3 } from "../src/std/half-floats.js";
import { elementCount } from "../src/std/tensor.js";

/** Length of the noise that tensors repeat; a prime. */
const TILE = 1_000_003;
/** Distance of the offsets of consecutive tensors; coprime to TILE. */
const STRIDE = 314_159;

/** Writes a .safetensors file with these tensors: matrices and kernels preserve the variance of their input, norms are near 1. */
export async function randomCheckpoint(
  path: string,
  tensors: readonly HeaderEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { header, ordered } = encodeHeader(tensors, metadata);
  const noise = randn(0, TILE);
  const tiles = new Map<string, Uint8Array>();
  await using handle = await open(path, "w");
  await handle.write(header);
  for (const [index, tensor] of ordered.entries())
    await writeRepeated(handle, tileOf(tensor, noise, tiles), { tensor, start: (index * STRIDE) % TILE });
}

// A published file has thousands of tensors, but few types and standard deviations.
function tileOf({ name, dtype, shape }: HeaderEntry, noise: Float32Array, tiles: Map<string, Uint8Array>): Uint8Array {
  const isWeight = shape.length > 1 && !name.endsWith("gamma");
  const deviation = isWeight ? elementCount(shape.slice(1)) ** -0.5 : 0.02;
  const mean = isWeight || name.endsWith("bias") ? 0 : 1;
  const key = [dtype, mean, deviation].join();
  const tile =
    tiles.get(key) ??
    bytesOf(
      dtype,
      noise.map((value) => mean + deviation * value),
    );
  tiles.set(key, tile);
  return tile;
}

function bytesOf(dtype: StoredType, values: Float32Array): Uint8Array {
  if (dtype === "F8_E4M3") return toFloat8E4M3(values);
  if (dtype === "BF16") return new Uint8Array(toBfloat16(values).buffer);
  if (dtype === "F32") return new Uint8Array(values.buffer);
  throw new Error(`internal: no random weights of type ${dtype}`);
}

async function writeRepeated(
  handle: FileHandle,
  tile: Uint8Array,
  { tensor: { shape }, start }: { tensor: HeaderEntry; start: number },
): Promise<void> {
  const bytes = tile.length / TILE;
  let [at, left] = [start * bytes, elementCount(shape) * bytes];
  while (left > 0) {
    const part = tile.subarray(at, Math.min(at + left, tile.length));
    await handle.write(part);
    left -= part.length;
    at = 0;
  }
}
