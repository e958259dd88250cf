// The tensors of the published model files, for plans made before the files are downloaded.

import type { FileRole } from "../../catalog/published/models.js";
import { type Checkpoint, STORED_BYTES, type StoredTensor, type StoredType } from "../../checkpoint/checkpoint.js";
import { ROTATED_GROUP } from "../../checkpoint/packed-formats.js";
import type { LayoutLine } from "./layout-line.js";
import { QWEN_IMAGE_2_LAYOUTS } from "./qwen-image-2-layouts.js";
import { QWEN_IMAGE_LAYOUTS } from "./qwen-image-layouts.js";

/** A part of a model, or the Lightning LoRA of its transformer. */
export type Layout = FileRole | "lightning";

/** Largest relative difference between a file's size and its tensors' bytes: headers, and tensors that releases add or omit. */
const TOLERANCE = 0.02;

/** By the family of the model, as the catalogue of models names it. */
const LAYOUTS: Readonly<Record<string, Readonly<Partial<Record<Layout, readonly LayoutLine[]>>>>> = {
  "Qwen-Image": QWEN_IMAGE_LAYOUTS,
  "Qwen-Image-2.1": QWEN_IMAGE_2_LAYOUTS,
};

/** The matrices that the published INT8 files of ComfyUI hold as integers. */
const ROUNDED = /^(transformer_blocks|model\.layers)\.|^(model\.embed_tokens|lm_head)\./;

/**
 * The checkpoint that a published file of a family should hold, without reading it. Stored types are chosen by its size in bytes: as published, 8-bit
 * floats as bfloat16, all as float32, or the large matrices as INT8 ConvRot; undefined if none fits, or the family is not known. Without
 * `bytes`, as published.
 */
export function assumedCheckpoint(
  layout: Layout,
  { family, file, bytes }: { family: string; file: string; bytes: number | undefined },
): Checkpoint | undefined {
  const lines = Object.hasOwn(LAYOUTS, family) ? LAYOUTS[family]![layout] : undefined;
  const published = (lines ?? []).flatMap(([pattern, dtype, shape]) =>
    expand(pattern).map((name): Tensor => ({ name, dtype, shape })),
  );
  const wide = published
    .filter(({ name }) => !/\.scale_(weight|input)$|^scaled_fp8$/.test(name))
    .map((tensor) => ({ ...tensor, dtype: widened(tensor.dtype) }));
  const float = wide.map((tensor) => ({ ...tensor, dtype: "F32" as const }));
  const fits = (tensors: readonly Tensor[]) =>
    tensors.length > 0 && (bytes === undefined || Math.abs(1 - totalBytes(tensors) / bytes) <= TOLERANCE);
  const tensors = [published, wide, float, wide.flatMap(rounded)].find(fits);
  return tensors && { file, tensors: placed(tensors, file), metadata: {} };
}

// As the INT8 ConvRot file of the same part has it: with a scale for each row.
function rounded(tensor: Tensor): Tensor[] {
  const { name, shape } = tensor;
  if (shape.length !== 2 || !ROUNDED.test(name)) return [tensor];
  return [
    { ...tensor, dtype: "I8", rotated: ROTATED_GROUP },
    { name: `${name}_scale`, dtype: "F32", shape: [shape[0]!, 1] },
  ];
}

function widened(dtype: StoredType): StoredType {
  return dtype === "F8_E4M3" ? "BF16" : dtype;
}

type Tensor = Pick<StoredTensor, "dtype" | "shape" | "rotated"> & { readonly name: string };

function placed(tensors: readonly Tensor[], file: string): ReadonlyMap<string, StoredTensor> {
  let offset = 0;
  return new Map(
    tensors.map(({ name, ...tensor }) => {
      const stored = { ...tensor, file, offset, length: totalBytes([{ name, ...tensor }]) };
      offset += stored.length;
      return [name, stored];
    }),
  );
}

function totalBytes(tensors: readonly Tensor[]): number {
  return tensors.reduce(
    (sum, { dtype, shape }) => sum + shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]),
    0,
  );
}

// All names that match a pattern.
function expand(pattern: string): string[] {
  const braces = /\{([^}]*)\}/.exec(pattern);
  if (braces === null) return [pattern];
  const [whole, body] = braces as unknown as [string, string];
  const after = expand(pattern.slice(braces.index + whole.length));
  return alternatives(body).flatMap((word) => after.map((rest) => pattern.slice(0, braces.index) + word + rest));
}

function alternatives(body: string): string[] {
  const range = /^(\d+)\.\.(\d+)$/.exec(body);
  if (range === null) return body.split(",");
  return Array.from({ length: Number(range[2]) - Number(range[1]) + 1 }, (_, index) =>
    String(Number(range[1]) + index),
  );
}
