// Published files of Qwen-Image-2.1 as sparse files of their true sizes, in bf16 and as ComfyUI rounds them to rotated INT8.
import { open } from "node:fs/promises";
import { expect } from "vitest";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import type { HeaderEntry } from "../../src/checkpoint/safetensors/safetensors-writer.js";

/** What ComfyUI says of each rotated layer. */
const CONVROT = '{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 256}';

interface Published {
  readonly bytes: number;
  readonly tensors: number;
  readonly layout: () => readonly HeaderEntry[];
  /** The weights that are rounded; unless given none. */
  readonly isRounded?: (name: string) => boolean;
}

const textEncoder = () => publishedTensors("qwen3vl_8b_bf16");

// Gate and projection of the feed-forward are one matrix in ComfyUI's files.
function transformer(): readonly HeaderEntry[] {
  return publishedTensors("qwen_image_2.1_bf16").flatMap((each) => {
    if (each.name.endsWith(".img_mlp.proj.weight")) return [];
    if (!each.name.endsWith(".img_mlp.gate_layer.weight")) return [each];
    const [rows, columns] = each.shape as [number, number];
    return [{ ...each, name: each.name.replace("gate_layer", "gate_up"), shape: [2 * rows, columns] }];
  });
}

/** Bytes are those that the catalogue has (models.json). */
const PUBLISHED = {
  qwen3vl_8b_bf16: { bytes: 17_534_334_616, tensors: 750, layout: textEncoder },
  qwen3vl_8b_int8_convrot: {
    ...{ bytes: 9_350_798_360, tensors: 1258, layout: textEncoder },
    isRounded: (name) => /(_proj|embed_tokens|lm_head)\.weight$/.test(name),
  },
  "qwen_image_2.1_bf16": { bytes: 14_230_280_616, tensors: 265, layout: transformer },
  "qwen_image_2.1_int8_convrot": {
    ...{ bytes: 7_256_783_064, tensors: 649, layout: transformer },
    isRounded: (name) => /^transformer_blocks\..*(to_[qkv]|to_out\.0|gate_up|out)\.weight$/.test(name),
  },
} as const satisfies Readonly<Record<string, Published>>;

/** Writes a published file as a sparse one, whose size is that of the published file. */
export async function publishedFile(path: string, name: keyof typeof PUBLISHED): Promise<void> {
  const { bytes, tensors: count, layout, isRounded = () => false }: Published = PUBLISHED[name];
  const tensors = layout().flatMap((each) => {
    if (!isRounded(each.name)) return [each];
    const at = (suffix: string) => each.name.replace(/weight$/, suffix);
    return [
      { ...each, dtype: "I8" as const },
      { name: at("weight_scale"), dtype: "F32" as const, shape: [each.shape[0]!, 1] },
      { name: at("comfy_quant"), dtype: "U8" as const, shape: [CONVROT.length] },
    ];
  });
  await sparseCheckpoint(path, tensors, { format: "pt" });
  await using handle = await open(path, "r+");
  expect([(await handle.stat()).size, tensors.length]).toEqual([bytes, count]);
  for (const [key, { offset }] of (await readHeader(path)).filter(([each]) => each.endsWith(".comfy_quant")))
    expect((await handle.write(CONVROT, offset)).bytesWritten, key).toBe(CONVROT.length);
}

// The reader of checkpoints takes what layers say of themselves out of the tensors.
async function readHeader(path: string): Promise<readonly (readonly [string, { readonly offset: number }])[]> {
  await using handle = await open(path, "r");
  const { buffer: length } = await handle.read(Buffer.alloc(8), 0, 8, 0);
  const bytes = Number(length.readBigUInt64LE());
  const { buffer: text } = await handle.read(Buffer.alloc(bytes), 0, bytes, 8);
  const header = JSON.parse(text.toString()) as Record<string, { data_offsets?: readonly [number, number] }>;
  return Object.entries(header).flatMap(([name, { data_offsets: at }]) =>
    at ? [[name, { offset: 8 + bytes + at[0] }]] : [],
  );
}
