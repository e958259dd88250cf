// Writes checkpoints with weights in 8 bits and scales, spelt and laid out as tools do it.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Checkpoint, StoredType } from "../../src/checkpoint/checkpoint.js";
import { readBytes, readTensor } from "../../src/checkpoint/read-tensor.js";
import { rotated } from "../../src/checkpoint/rotation.js";
import { encodeHeader } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { SCALE_NAMES, scaleNameOf } from "../../src/checkpoint/weight-scales.js";
import { fromBfloat16, toBfloat16, toFloat8E4M3, toFloat8E5M2, toFloat16 } from "../../src/std/half-floats.js";

/** A tensor of any stored type. */
export interface RawTensor {
  readonly dtype: StoredType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** How weights become 8-bit numbers times a scale. */
export interface Quantising {
  /** What follows the module's path in the name of the scale: `.weight_scale`. */
  readonly spelling: string;
  /** One number for each block of so many rows and columns; Infinity is all of them. */
  readonly block: readonly [rows: number, columns: number];
  readonly dtype?: "F8_E4M3" | "F8_E5M2" | "I8";
  readonly scaleType?: "F32" | "BF16";
  /** The shape of the scale, where it is not that of the blocks. */
  readonly shape?: (blocks: readonly [number, number]) => readonly number[];
  /** Whether the scale is written as its inverse, which is wrong. */
  readonly isInverse?: boolean;
}

const LARGEST = { F8_E4M3: 448, F8_E5M2: 57344, I8: 127 } as const;

/** float32 numbers as a raw tensor. */
export function raw(shape: readonly number[], values: Float32Array, dtype: "F32" | "F16" | "BF16" = "F32"): RawTensor {
  const stored = { F32: () => values, F16: () => toFloat16(values), BF16: () => toBfloat16(values) }[dtype]();
  return { dtype, shape, bytes: new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength) };
}

/** A weight [rows, ...] in 8 bits, and its scale. */
export function quantised(
  shape: readonly number[],
  values: Float32Array,
  { block, dtype = "F8_E4M3", scaleType = "F32", shape: scaleShape, isInverse = false }: Omit<Quantising, "spelling">,
): { weight: RawTensor; scale: RawTensor } {
  const rows = shape[0]!;
  const columns = values.length / rows;
  const [tall, wide] = [Math.min(block[0], rows), Math.min(block[1], columns)];
  const blocks = [Math.ceil(rows / tall), Math.ceil(columns / wide)] as const;
  const blockOf = (at: number) =>
    Math.floor(Math.floor(at / columns) / tall) * blocks[1] + Math.floor((at % columns) / wide);
  const scales = new Float32Array(blocks[0] * blocks[1]);
  values.forEach((value, at) => {
    scales[blockOf(at)] = Math.max(scales[blockOf(at)]!, Math.abs(value) / LARGEST[dtype], 1e-8);
  });
  const rounded = scaleType === "BF16" ? fromBfloat16(toBfloat16(scales)) : scales;
  const numbers = values.map((value, at) => value / rounded[blockOf(at)]!);
  const bytes = {
    F8_E4M3: () => toFloat8E4M3(numbers),
    F8_E5M2: () => toFloat8E5M2(numbers),
    I8: () => new Uint8Array(Int8Array.from(numbers, Math.round).buffer),
  }[dtype]();
  const written = isInverse ? rounded.map((each) => 1 / each) : rounded;
  return { weight: { dtype, shape, bytes }, scale: raw(scaleShape?.(blocks) ?? blocks, written, scaleType) };
}

/** Writes a safetensors file of raw tensors. */
export async function writeRaw(
  path: string,
  tensors: Readonly<Record<string, RawTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<string> {
  const entries = Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const { header, ordered } = encodeHeader(entries, metadata);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, Buffer.concat([header, ...ordered.map(({ name }) => tensors[name]!.bytes)]));
  return path;
}

/** The tensors of a checkpoint, as they are stored. */
export async function rawTensors({ tensors }: Checkpoint): Promise<Record<string, RawTensor>> {
  const found: Record<string, RawTensor> = {};
  for (const [name, stored] of tensors)
    found[name] = { dtype: stored.dtype, shape: stored.shape, bytes: await readBytes(stored) };
  return found;
}

/** The tensors of a checkpoint with the matrices whose names `isWanted` as 8-bit numbers times scales. */
export async function requantised(
  checkpoint: Checkpoint,
  quantising: Quantising,
  isWanted: (name: string) => boolean = () => true,
): Promise<Record<string, RawTensor>> {
  const found = await rawTensors(checkpoint);
  for (const [name, stored] of checkpoint.tensors) {
    if (!name.endsWith(".weight") || stored.shape.length < 2 || !isWanted(name)) continue;
    // Scales of the embedded text encoder are one number each.
    const old = checkpoint.tensors.get(scaleNameOf(checkpoint.tensors, name) ?? "");
    const [by = 1] = old === undefined ? [] : await readTensor(old);
    const values = (await readTensor(stored)).map((value) => value * by);
    const { weight, scale } = quantised(stored.shape, values, quantising);
    found[name] = weight;
    for (const each of SCALE_NAMES) delete found[`${name.slice(0, -".weight".length)}.${each}`];
    found[name.slice(0, -".weight".length) + quantising.spelling] = scale;
  }
  return found;
}

/**
 * The tensors of a checkpoint with the matrices whose names `isWanted` as INT8 ConvRot of ComfyUI has them, rotated in groups of columns with a scale for
 * each row; and the floats that those stand for.
 */
export async function rotatedAndRounded(
  checkpoint: Checkpoint,
  group: number,
  isWanted: (name: string) => boolean,
): Promise<{ rounded: Record<string, RawTensor>; meant: Record<string, RawTensor> }> {
  const [rounded, meant] = [await rawTensors(checkpoint), await rawTensors(checkpoint)];
  const text = JSON.stringify({ format: "int8_tensorwise", convrot: true, convrot_groupsize: group });
  const described = new TextEncoder().encode(text);
  for (const [name, stored] of checkpoint.tensors) {
    if (stored.shape.length !== 2 || !isWanted(name)) continue;
    const module = name.slice(0, -".weight".length);
    const values = rotated(await readTensor(stored), group);
    const { weight, scale } = quantised(stored.shape, values, { block: [1, stored.shape[1]!], dtype: "I8" });
    rounded[name] = weight;
    rounded[`${module}.weight_scale`] = scale;
    rounded[`${module}.comfy_quant`] = { dtype: "U8", shape: [described.length], bytes: described };
    const scales = new Float32Array(scale.bytes.buffer);
    const numbers = Float32Array.from(
      new Int8Array(weight.bytes.buffer),
      (value, at) => value * scales[Math.floor(at / stored.shape[1]!)]!,
    );
    meant[name] = raw(stored.shape, rotated(numbers, group));
  }
  return { rounded, meant };
}
