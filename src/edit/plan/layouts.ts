// The tensors of the published model files, for plans made before the files are downloaded: [pattern, type, shape]. Patterns expand like shell
// braces: {a,b} to each word, {0..59} to each number.

import type { FileRole } from "../../catalog/published/models.js";
import { type Checkpoint, STORED_BYTES, type StoredTensor, type StoredType } from "../../checkpoint/checkpoint.js";

type Line = readonly [pattern: string, dtype: StoredType, shape: readonly number[]];

/** A part of a model, or the Lightning LoRA of its transformer. */
export type Layout = FileRole | "lightning";

/** Largest relative difference between a file's size and its tensors' bytes: headers, and tensors that releases add or omit. */
const TOLERANCE = 0.02;

/**
 * The checkpoint that a published file should hold, without reading it. Stored types are chosen by its size in bytes: as published, 8-bit floats
 * as bfloat16, or all as float32; undefined if none fits. Without `bytes`, as published.
 */
export function assumedCheckpoint(
  layout: Layout,
  { file, bytes }: { file: string; bytes: number | undefined },
): Checkpoint | undefined {
  const published = LAYOUTS[layout].flatMap(([pattern, dtype, shape]) =>
    expand(pattern).map((name) => ({ name, dtype, shape })),
  );
  const wide = published
    .filter(({ name }) => !/\.scale_(weight|input)$|^scaled_fp8$/.test(name))
    .map((tensor) => ({ ...tensor, dtype: widened(tensor.dtype) }));
  const float = wide.map((tensor) => ({ ...tensor, dtype: "F32" as const }));
  const fits = (tensors: typeof published) =>
    bytes === undefined || Math.abs(1 - totalBytes(tensors) / bytes) <= TOLERANCE;
  const tensors = [published, wide, float].find(fits);
  return tensors && { file, tensors: placed(tensors, file), metadata: {} };
}

function widened(dtype: StoredType): StoredType {
  return dtype === "F8_E4M3" ? "BF16" : dtype;
}

type Tensor = Pick<StoredTensor, "dtype" | "shape"> & { readonly name: string };

function placed(tensors: readonly Tensor[], file: string): ReadonlyMap<string, StoredTensor> {
  let offset = 0;
  return new Map(
    tensors.map(({ name, dtype, shape }) => {
      const stored = { dtype, shape, file, offset, length: totalBytes([{ name, dtype, shape }]) };
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

/** qwen_image_edit_2509_fp8_e4m3fn.safetensors */
const TRANSFORMER: readonly Line[] = [
  ["img_in.weight", "F8_E4M3", [3072, 64]],
  ["{img_in,txt_in}.bias", "F8_E4M3", [3072]],
  ["txt_norm.weight", "F8_E4M3", [3584]],
  ["txt_in.weight", "F8_E4M3", [3072, 3584]],
  ["time_text_embed.timestep_embedder.linear_1.weight", "F8_E4M3", [3072, 256]],
  ["time_text_embed.timestep_embedder.linear_2.weight", "F8_E4M3", [3072, 3072]],
  ["time_text_embed.timestep_embedder.linear_{1,2}.bias", "F8_E4M3", [3072]],
  ["transformer_blocks.{0..59}.{img_mod,txt_mod}.1.weight", "F8_E4M3", [18432, 3072]],
  ["transformer_blocks.{0..59}.{img_mod,txt_mod}.1.bias", "F8_E4M3", [18432]],
  [
    "transformer_blocks.{0..59}.attn.{to_q,to_k,to_v,add_q_proj,add_k_proj,add_v_proj,to_out.0,to_add_out}.weight",
    "F8_E4M3",
    [3072, 3072],
  ],
  [
    "transformer_blocks.{0..59}.attn.{to_q,to_k,to_v,add_q_proj,add_k_proj,add_v_proj,to_out.0,to_add_out}.bias",
    "F8_E4M3",
    [3072],
  ],
  ["transformer_blocks.{0..59}.attn.{norm_q,norm_k,norm_added_q,norm_added_k}.weight", "F8_E4M3", [128]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.0.proj.weight", "F8_E4M3", [12288, 3072]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.0.proj.bias", "F8_E4M3", [12288]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.2.weight", "F8_E4M3", [3072, 12288]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.2.bias", "F8_E4M3", [3072]],
  ["norm_out.linear.weight", "F8_E4M3", [6144, 3072]],
  ["norm_out.linear.bias", "F8_E4M3", [6144]],
  ["proj_out.weight", "F8_E4M3", [64, 3072]],
  ["proj_out.bias", "F8_E4M3", [64]],
];

/** qwen_2.5_vl_7b_fp8_scaled.safetensors */
const TEXT_ENCODER: readonly Line[] = [
  ["scaled_fp8", "F8_E4M3", [0]],
  ["{model.embed_tokens,lm_head}.weight", "BF16", [152064, 3584]],
  ["model.norm.weight", "BF16", [3584]],
  ["model.layers.{0..27}.{input_layernorm,post_attention_layernorm}.weight", "BF16", [3584]],
  ["model.layers.{0..27}.self_attn.{q_proj,o_proj}.weight", "F8_E4M3", [3584, 3584]],
  ["model.layers.{0..27}.self_attn.{k_proj,v_proj}.weight", "F8_E4M3", [512, 3584]],
  ["model.layers.{0..27}.self_attn.q_proj.bias", "BF16", [3584]],
  ["model.layers.{0..27}.self_attn.{k_proj,v_proj}.bias", "BF16", [512]],
  ["model.layers.{0..27}.self_attn.{q_proj,k_proj,v_proj,o_proj}.{scale_weight,scale_input}", "F32", []],
  ["model.layers.{0..27}.mlp.{gate_proj,up_proj}.weight", "F8_E4M3", [18944, 3584]],
  ["model.layers.{0..27}.mlp.down_proj.weight", "F8_E4M3", [3584, 18944]],
  ["model.layers.{0..27}.mlp.{gate_proj,up_proj,down_proj}.{scale_weight,scale_input}", "F32", []],
  ["visual.patch_embed.proj.weight", "BF16", [1280, 3, 2, 14, 14]],
  ["visual.blocks.{0..31}.{norm1,norm2}.weight", "BF16", [1280]],
  ["visual.blocks.{0..31}.attn.qkv.weight", "F8_E4M3", [3840, 1280]],
  ["visual.blocks.{0..31}.attn.qkv.bias", "BF16", [3840]],
  ["visual.blocks.{0..31}.attn.proj.weight", "F8_E4M3", [1280, 1280]],
  ["visual.blocks.{0..31}.attn.proj.bias", "BF16", [1280]],
  ["visual.blocks.{0..31}.attn.{qkv,proj}.{scale_weight,scale_input}", "F32", []],
  ["visual.blocks.{0..31}.mlp.{gate_proj,up_proj}.weight", "F8_E4M3", [3420, 1280]],
  ["visual.blocks.{0..31}.mlp.{gate_proj,up_proj}.bias", "BF16", [3420]],
  ["visual.blocks.{0..31}.mlp.down_proj.weight", "F8_E4M3", [1280, 3420]],
  ["visual.blocks.{0..31}.mlp.down_proj.bias", "BF16", [1280]],
  ["visual.blocks.{0..31}.mlp.{gate_proj,up_proj,down_proj}.{scale_weight,scale_input}", "F32", []],
  ["visual.merger.ln_q.weight", "BF16", [1280]],
  ["visual.merger.mlp.0.weight", "F8_E4M3", [5120, 5120]],
  ["visual.merger.mlp.0.bias", "BF16", [5120]],
  ["visual.merger.mlp.2.weight", "F8_E4M3", [3584, 5120]],
  ["visual.merger.mlp.2.bias", "BF16", [3584]],
  ["visual.merger.mlp.{0,2}.{scale_weight,scale_input}", "F32", []],
];

/** qwen_image_vae.safetensors */
const VAE: readonly Line[] = [
  ["encoder.conv1.weight", "BF16", [96, 3, 3, 3, 3]],
  ["encoder.conv1.bias", "BF16", [96]],
  ["encoder.downsamples.{0,1}.residual.{0,3}.gamma", "BF16", [96, 1, 1, 1]],
  ["encoder.downsamples.{0,1}.residual.{2,6}.weight", "BF16", [96, 96, 3, 3, 3]],
  ["encoder.downsamples.{0,1}.residual.{2,6}.bias", "BF16", [96]],
  ["encoder.downsamples.2.resample.1.weight", "BF16", [96, 96, 3, 3]],
  ["encoder.downsamples.2.resample.1.bias", "BF16", [96]],
  ["encoder.downsamples.3.residual.0.gamma", "BF16", [96, 1, 1, 1]],
  ["encoder.downsamples.3.residual.2.weight", "BF16", [192, 96, 3, 3, 3]],
  ["encoder.downsamples.3.residual.2.bias", "BF16", [192]],
  ["encoder.downsamples.3.residual.3.gamma", "BF16", [192, 1, 1, 1]],
  ["encoder.downsamples.3.residual.6.weight", "BF16", [192, 192, 3, 3, 3]],
  ["encoder.downsamples.3.residual.6.bias", "BF16", [192]],
  ["encoder.downsamples.3.shortcut.weight", "BF16", [192, 96, 1, 1, 1]],
  ["encoder.downsamples.3.shortcut.bias", "BF16", [192]],
  ["encoder.downsamples.4.residual.{0,3}.gamma", "BF16", [192, 1, 1, 1]],
  ["encoder.downsamples.4.residual.{2,6}.weight", "BF16", [192, 192, 3, 3, 3]],
  ["encoder.downsamples.4.residual.{2,6}.bias", "BF16", [192]],
  ["encoder.downsamples.5.resample.1.weight", "BF16", [192, 192, 3, 3]],
  ["encoder.downsamples.5.resample.1.bias", "BF16", [192]],
  ["encoder.downsamples.5.time_conv.weight", "BF16", [192, 192, 3, 1, 1]],
  ["encoder.downsamples.5.time_conv.bias", "BF16", [192]],
  ["encoder.downsamples.6.residual.0.gamma", "BF16", [192, 1, 1, 1]],
  ["encoder.downsamples.6.residual.2.weight", "BF16", [384, 192, 3, 3, 3]],
  ["encoder.downsamples.6.residual.2.bias", "BF16", [384]],
  ["encoder.downsamples.6.residual.3.gamma", "BF16", [384, 1, 1, 1]],
  ["encoder.downsamples.6.residual.6.weight", "BF16", [384, 384, 3, 3, 3]],
  ["encoder.downsamples.6.residual.6.bias", "BF16", [384]],
  ["encoder.downsamples.6.shortcut.weight", "BF16", [384, 192, 1, 1, 1]],
  ["encoder.downsamples.6.shortcut.bias", "BF16", [384]],
  ["encoder.downsamples.7.residual.{0,3}.gamma", "BF16", [384, 1, 1, 1]],
  ["encoder.downsamples.7.residual.{2,6}.weight", "BF16", [384, 384, 3, 3, 3]],
  ["encoder.downsamples.7.residual.{2,6}.bias", "BF16", [384]],
  ["encoder.downsamples.8.resample.1.weight", "BF16", [384, 384, 3, 3]],
  ["encoder.downsamples.8.resample.1.bias", "BF16", [384]],
  ["encoder.downsamples.8.time_conv.weight", "BF16", [384, 384, 3, 1, 1]],
  ["encoder.downsamples.8.time_conv.bias", "BF16", [384]],
  ["encoder.downsamples.{9,10}.residual.{0,3}.gamma", "BF16", [384, 1, 1, 1]],
  ["encoder.downsamples.{9,10}.residual.{2,6}.weight", "BF16", [384, 384, 3, 3, 3]],
  ["encoder.downsamples.{9,10}.residual.{2,6}.bias", "BF16", [384]],
  ["{encoder,decoder}.middle.{0,2}.residual.{0,3}.gamma", "BF16", [384, 1, 1, 1]],
  ["{encoder,decoder}.middle.{0,2}.residual.{2,6}.weight", "BF16", [384, 384, 3, 3, 3]],
  ["{encoder,decoder}.middle.{0,2}.residual.{2,6}.bias", "BF16", [384]],
  ["{encoder,decoder}.middle.1.norm.gamma", "BF16", [384, 1, 1]],
  ["{encoder,decoder}.middle.1.to_qkv.weight", "BF16", [1152, 384, 1, 1]],
  ["{encoder,decoder}.middle.1.to_qkv.bias", "BF16", [1152]],
  ["{encoder,decoder}.middle.1.proj.weight", "BF16", [384, 384, 1, 1]],
  ["{encoder,decoder}.middle.1.proj.bias", "BF16", [384]],
  ["encoder.head.0.gamma", "BF16", [384, 1, 1, 1]],
  ["encoder.head.2.weight", "BF16", [32, 384, 3, 3, 3]],
  ["encoder.head.2.bias", "BF16", [32]],
  ["conv1.weight", "BF16", [32, 32, 1, 1, 1]],
  ["conv1.bias", "BF16", [32]],
  ["conv2.weight", "BF16", [16, 16, 1, 1, 1]],
  ["conv2.bias", "BF16", [16]],
  ["decoder.conv1.weight", "BF16", [384, 16, 3, 3, 3]],
  ["decoder.conv1.bias", "BF16", [384]],
  ["decoder.upsamples.{0..2}.residual.{0,3}.gamma", "BF16", [384, 1, 1, 1]],
  ["decoder.upsamples.{0..2}.residual.{2,6}.weight", "BF16", [384, 384, 3, 3, 3]],
  ["decoder.upsamples.{0..2}.residual.{2,6}.bias", "BF16", [384]],
  ["decoder.upsamples.3.resample.1.weight", "BF16", [192, 384, 3, 3]],
  ["decoder.upsamples.3.resample.1.bias", "BF16", [192]],
  ["decoder.upsamples.3.time_conv.weight", "BF16", [768, 384, 3, 1, 1]],
  ["decoder.upsamples.3.time_conv.bias", "BF16", [768]],
  ["decoder.upsamples.4.residual.0.gamma", "BF16", [192, 1, 1, 1]],
  ["decoder.upsamples.4.residual.2.weight", "BF16", [384, 192, 3, 3, 3]],
  ["decoder.upsamples.4.residual.2.bias", "BF16", [384]],
  ["decoder.upsamples.4.residual.3.gamma", "BF16", [384, 1, 1, 1]],
  ["decoder.upsamples.4.residual.6.weight", "BF16", [384, 384, 3, 3, 3]],
  ["decoder.upsamples.4.residual.6.bias", "BF16", [384]],
  ["decoder.upsamples.4.shortcut.weight", "BF16", [384, 192, 1, 1, 1]],
  ["decoder.upsamples.4.shortcut.bias", "BF16", [384]],
  ["decoder.upsamples.{5,6}.residual.{0,3}.gamma", "BF16", [384, 1, 1, 1]],
  ["decoder.upsamples.{5,6}.residual.{2,6}.weight", "BF16", [384, 384, 3, 3, 3]],
  ["decoder.upsamples.{5,6}.residual.{2,6}.bias", "BF16", [384]],
  ["decoder.upsamples.7.resample.1.weight", "BF16", [192, 384, 3, 3]],
  ["decoder.upsamples.7.resample.1.bias", "BF16", [192]],
  ["decoder.upsamples.7.time_conv.weight", "BF16", [768, 384, 3, 1, 1]],
  ["decoder.upsamples.7.time_conv.bias", "BF16", [768]],
  ["decoder.upsamples.{8..10}.residual.{0,3}.gamma", "BF16", [192, 1, 1, 1]],
  ["decoder.upsamples.{8..10}.residual.{2,6}.weight", "BF16", [192, 192, 3, 3, 3]],
  ["decoder.upsamples.{8..10}.residual.{2,6}.bias", "BF16", [192]],
  ["decoder.upsamples.11.resample.1.weight", "BF16", [96, 192, 3, 3]],
  ["decoder.upsamples.11.resample.1.bias", "BF16", [96]],
  ["decoder.upsamples.{12..14}.residual.{0,3}.gamma", "BF16", [96, 1, 1, 1]],
  ["decoder.upsamples.{12..14}.residual.{2,6}.weight", "BF16", [96, 96, 3, 3, 3]],
  ["decoder.upsamples.{12..14}.residual.{2,6}.bias", "BF16", [96]],
  ["decoder.head.0.gamma", "BF16", [96, 1, 1, 1]],
  ["decoder.head.2.weight", "BF16", [3, 96, 3, 3, 3]],
  ["decoder.head.2.bias", "BF16", [3]],
];

/** Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors */
const LIGHTNING: readonly Line[] = [
  [
    "transformer_blocks.{0..59}.attn.{to_q,to_k,to_v,add_q_proj,add_k_proj,add_v_proj,to_out.0,to_add_out}.lora_down.weight",
    "BF16",
    [64, 3072],
  ],
  [
    "transformer_blocks.{0..59}.attn.{to_q,to_k,to_v,add_q_proj,add_k_proj,add_v_proj,to_out.0,to_add_out}.lora_up.weight",
    "BF16",
    [3072, 64],
  ],
  [
    "transformer_blocks.{0..59}.attn.{to_q,to_k,to_v,add_q_proj,add_k_proj,add_v_proj,to_out.0,to_add_out}.alpha",
    "BF16",
    [],
  ],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.0.proj.lora_down.weight", "BF16", [64, 3072]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.0.proj.lora_up.weight", "BF16", [12288, 64]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.0.proj.alpha", "BF16", []],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.2.lora_down.weight", "BF16", [64, 12288]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.2.lora_up.weight", "BF16", [3072, 64]],
  ["transformer_blocks.{0..59}.{img_mlp,txt_mlp}.net.2.alpha", "BF16", []],
];

const LAYOUTS: Readonly<Record<Layout, readonly Line[]>> = {
  vae: VAE,
  textEncoder: TEXT_ENCODER,
  transformer: TRANSFORMER,
  lightning: LIGHTNING,
};
