// A folder of files from everywhere: each is named by its header, whether or not qedit can run it.
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { scanModels } from "../../src/catalog/local/scan-folders.js";
import type { StoredType } from "../../src/checkpoint/checkpoint.js";
import { STORED_BYTES } from "../../src/checkpoint/checkpoint.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { encodeHeader, type HeaderEntry } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { identityText } from "../../src/cli/commands/models/model-options.js";
import { qedit } from "../cli/qedit.js";
import { floats, writeGguf } from "../support/gguf.js";
import { writeQuantised } from "../support/gguf-quantised.js";
import { fixture } from "../support/golden.js";
import { homeFolder } from "./tree.js";

const home = homeFolder();

/** The tensors of a stranger: names, all of one shape, or each with its own type and shape. */
type Strange = readonly string[] | Readonly<Record<string, readonly [StoredType, readonly number[]]>>;

const lora = (...modules: string[]) => modules.flatMap((each) => [`${each}.lora_A.weight`, `${each}.lora_B.weight`]);
const layer = (dtype: StoredType, scale: string, scaleType: StoredType) => ({
  ...of(["txt_norm.weight", "img_in.weight"]),
  "transformer_blocks.0.attn.to_q.weight": [dtype, [64, 64]] as const,
  [`transformer_blocks.0.attn.to_q.${scale}`]: [scaleType, [64, 2]] as const,
});
const of = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, ["BF16", [4, 8]] as const]));

/** Files by their headers, and what a scan says of each. */
const STRANGERS: Readonly<Record<string, readonly [Strange, RegExp]>> = {
  "flux.safetensors": [["double_blocks.0.img_attn.qkv.weight"], /^a FLUX or HunyuanVideo transformer, bf16; not of a/],
  "flux-of-sd-cpp.safetensors": [["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], /^a FLUX/],
  "sd3.safetensors": [["joint_blocks.0.x_block.attn.qkv.weight"], /^a Stable Diffusion 3 transformer/],
  "z-image.safetensors": [["context_refiner.0.attention.to_q.weight"], /^a Z-Image or Lumina transformer/],
  "wan.safetensors": [["blocks.0.cross_attn.q.weight"], /^a Wan transformer/],
  "ltx.safetensors": [["patchify_proj.weight", "transformer_blocks.0.attn1.to_q.weight"], /^an LTX-Video transformer/],
  "sdxl.safetensors": [["model.diffusion_model.input_blocks.0.0.weight"], /^a U-Net of Stable Diffusion/],
  "controlnet-union.safetensors": [
    ["controlnet_blocks.0.weight", "txt_norm.weight", "img_in.weight", "transformer_blocks.0.attn.to_q.weight"],
    /^a ControlNet/,
  ],
  "t5xxl.safetensors": [["encoder.block.0.layer.0.SelfAttention.q.weight"], /^a T5 text encoder/],
  "clip_l.safetensors": [["text_model.encoder.layers.0.self_attn.q_proj.weight"], /^a CLIP text encoder/],
  "clip_vision.safetensors": [["vision_model.encoder.layers.0.mlp.fc1.weight"], /^a CLIP or SigLIP vision encoder/],
  "gemma.safetensors": [["model.layers.0.self_attn.q_proj.weight"], /^a language model/],
  "qwen3.5.safetensors": [["model.layers.0.linear_attn.in_proj.weight"], /^a Qwen3.5 language model/],
  "wan2.2_vae.safetensors": [["decoder.upsamples.0.upsamples.0.residual.2.weight"], /^the VAE of Wan 2.2/],
  "sdxl_vae.safetensors": [["decoder.up.0.block.0.conv1.weight"], /^a VAE of Stable Diffusion or FLUX/],
  "4x-upscaler.safetensors": [["body.0.rdb1.conv1.weight"], /^an upscaler \(ESRGAN\)/],
  "ip-adapter.safetensors": [["image_proj.latents"], /^an IP-Adapter/],
  "embedding.safetensors": [["emb_params"], /^a textual inversion/],
  "who-knows.safetensors": [["some.weight"], /^not of a model that qedit runs/],
  "trained.safetensors": [
    lora("transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn.to_out.0"),
    /^LoRA for Qwen-Image and its Edit releases, or another model with such blocks, rank 4, 2 modules/,
  ],
  "flux-lora.safetensors": [
    lora("transformer.transformer_blocks.0.attn.to_q", "transformer.single_transformer_blocks.0.attn.to_q"),
    /^LoRA for another model.*fits no transformer that qedit runs/,
  ],
  "oft.safetensors": [
    { "transformer_blocks.0.img_mlp.net.2.oft_diag": ["F32", [2, 4, 4]] },
    /^LoRA for Qwen-Image.*holds OFT of LyCORIS before 2\.0, which qedit does not compute/,
  ],
  "miss.safetensors": [
    { "base_model.model.transformer_blocks.0.img_mlp.net.2.miss_block": ["F32", [4, 8]] },
    /^LoRA for Qwen-Image.*holds MiSS, which qedit does not compute/,
  ],
  "mxfp8.safetensors": [
    layer("F8_E4M3", "weight_scale", "F8_E8M0"),
    /^Qwen-Image or Qwen-Image-Edit transformer, 1 blocks, .*weights are stored as MXFP8, which qedit does not compute/,
  ],
  "nvfp4.safetensors": [
    layer("U8", "weight_scale", "F8_E4M3"),
    /^Qwen-Image.*weights are stored as NVFP4, which qedit does not compute/,
  ],
  "svdq-int4.safetensors": [["transformer_blocks.0.attn.to_qkv.wscales"], /SVDQuant, as of Nunchaku/],
  "bnb.safetensors": [["transformer_blocks.0.attn.to_q.weight.absmax"], /NF4 or FP4 of bitsandbytes/],
};

/** Files that lie there as they are, and what a scan says of each. */
const OTHERS: Readonly<Record<string, RegExp>> = {
  "plain.safetensors": /^Qwen-Image or Qwen-Image-Edit transformer, 2 blocks/,
  "later.safetensors": /^Qwen-Image-Edit-2511 transformer, 2 blocks/,
  "encoder.safetensors": /^Qwen2.5-VL text encoder, 2 layers of 16.*with vision/,
  "blind.safetensors": /^Qwen2.5 text encoder.*it cannot see pictures/,
  "vae.safetensors": /^Qwen-Image VAE/,
  "tiny-Q8_0.gguf": /^Qwen-Image or Qwen-Image-Edit transformer, 5 blocks, Q8_0/,
  "iq3.gguf": /^refused: .*stored as IQ3_S/,
  "mmproj-F16.gguf": /^Qwen2.5-VL vision tower \(mmproj\), 1 blocks/,
  "cut.safetensors": /^refused: .*the file is empty/,
  "old.ckpt": /^refused: a Python pickle/,
  "model-00001-of-00002.safetensors": /^refused: .*one of several parts, and their index is missing/,
};

test("a folder of more than thirty strangers is named, file by file", async () => {
  const folder = home.at("strangers");
  await mkdir(folder);
  const at = (name: string) => `${folder}/${name}`;
  for (const [name, [tensors]] of Object.entries(STRANGERS)) await written(at(name), tensors);
  for (const [name, file] of [
    ["plain", "transformer"],
    ["later", "transformer-2511"],
    ["encoder", "text-encoder"],
    ["blind", "text-encoder-no-vision"],
    ["vae", "vae"],
  ])
    await cp(fixture(`tiny/${file}.safetensors`), at(`${name}.safetensors`));
  await writeQuantised(
    at("tiny-Q8_0.gguf"),
    await readSafetensors(fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors")),
    "Q8_0",
  );
  await writeGguf(at("iq3.gguf"), { tensors: { x: { shape: [256], type: 21, bytes: new Uint8Array(110) } } });
  await writeGguf(at("mmproj-F16.gguf"), {
    values: { "general.architecture": { text: "clip" } },
    tensors: {
      "v.post_ln.weight": floats([4], new Float32Array(4)),
      "v.blk.0.ln1.weight": floats([4], new Float32Array(4)),
    },
  });
  await writeFile(at("cut.safetensors"), "");
  await writeFile(at("old.ckpt"), "PK\u0003\u0004");
  await written(at("model-00001-of-00002.safetensors"), ["a.weight"]);

  const wanted = {
    ...Object.fromEntries(Object.entries(STRANGERS).map(([name, [, text]]) => [name, text])),
    ...OTHERS,
  };
  const { files } = await scanModels({ modelsDirs: [folder], only: true });
  expect(files.map(({ path }) => path.slice(folder.length + 1)).sort()).toEqual(Object.keys(wanted).sort());
  for (const { path, identity, refused } of files)
    expect
      .soft(identity ? identityText(identity) : `refused: ${refused}`, path)
      .toMatch(wanted[path.slice(folder.length + 1)]!);

  // Named folders are shown whole.
  const { stdout } = await qedit(["models", "scan", folder], { cwd: home.at("") });
  expect(Object.keys(wanted).filter((name) => !stdout.includes(at(name)))).toEqual([]);
  await rm(folder, { recursive: true });
});

/** Writes a file of zeros with these tensors. */
async function written(path: string, tensors: Strange): Promise<void> {
  const shapes = Array.isArray(tensors) ? of(tensors as string[]) : (tensors as Exclude<Strange, readonly string[]>);
  const entries: HeaderEntry[] = Object.entries(shapes).map(([name, [dtype, shape]]) => ({ name, dtype, shape }));
  const { header, dataBytes } = encodeHeader(entries, {});
  expect(dataBytes).toBe(
    entries.reduce((sum, { dtype, shape }) => sum + shape.reduce((a, b) => a * b, STORED_BYTES[dtype]), 0),
  );
  const bytes = new Uint8Array(header.length + dataBytes);
  bytes.set(header);
  await writeFile(path, bytes);
}
