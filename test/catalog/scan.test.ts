// A made-up ComfyUI tree and Hugging Face cache: every file found and named by its header.

import { chmod, mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import { identify } from "../../src/catalog/local/identify.js";
import { refuseUnscannable, type ScannedFile, scanModels } from "../../src/catalog/local/scan-folders.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { asNobody } from "../support/as-nobody.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { cached, homeFolder, note, place } from "./tree.js";

const home = homeFolder();
const folder = temporaryFolder();

async function scanned(options: Parameters<typeof scanModels>[0] = {}): Promise<Record<string, ScannedFile>> {
  const { files } = await scanModels(options);
  return Object.fromEntries(files.map((file) => [file.path.slice(home.at("x").length - 1), file]));
}

async function published(path: string, name: PublishedName, metadata = {}): Promise<void> {
  await mkdir(home.at(path.replace(/\/[^/]+$/, "")), { recursive: true });
  await sparseCheckpoint(home.at(path), publishedTensors(name), metadata);
}

describe("the published files", () => {
  beforeEach(() => vi.stubEnv("QEDIT_MODELS", home.at("comfy")));

  test("are named at full size: network, type, scales, vision, LoRA, and the models they belong to", async () => {
    await published(
      "comfy/models/diffusion_models/qwen_image_edit_fp8_e4m3fn.safetensors",
      "qwen_image_edit_2509_fp8_e4m3fn",
    );
    await published("comfy/models/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_2.5_vl_7b_fp8_scaled");
    await published("comfy/models/vae/qwen_image_vae.safetensors", "qwen_image_vae");
    await published(
      "comfy/models/loras/Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
      "lightning_lora_bf16",
    );
    const files = await scanned();
    const at = (path: string) => files[`comfy/models/${path}`]!;
    expect(at("diffusion_models/qwen_image_edit_fp8_e4m3fn.safetensors")).toMatchObject({
      identity: {
        kind: "transformer",
        network: "Qwen-Image or Qwen-Image-Edit transformer, 60 blocks",
        dtype: "F8_E4M3",
        isScaled: false,
        notes: [],
      },
      bytes: 20_430_635_136,
      models: ["qwen-image-edit"],
    });
    expect(at("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors")).toMatchObject({
      identity: {
        kind: "text-encoder",
        network: "Qwen2.5-VL text encoder, 28 layers of 3584",
        dtype: "F8_E4M3",
        isScaled: true,
        hasVision: true,
      },
      models: ["qwen-image-edit-2509", "qwen-image-edit-2511", "qwen-image-edit", "firered-image-edit"],
    });
    expect(at("vae/qwen_image_vae.safetensors")).toMatchObject({
      identity: { kind: "vae", dtype: "BF16", network: expect.stringContaining("16 latent channels") },
      models: { length: 6 },
    });
    expect(at("loras/Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors")).toMatchObject({
      identity: { kind: "lora", lora: { ranks: [64], layout: "kohya", modules: 720 } },
      models: ["qwen-image-edit-2509 lightning-4steps", "qwen-image-edit-2509-bf16 lightning-4steps"],
    });
    expect(Object.values(files)).toHaveLength(4);
  });

  test("of the right name and another length are told with both lengths", async () => {
    await published("comfy/models/vae/qwen_image_vae.safetensors", "qwen_image_vae", { edited: "yes" });
    const file = (await scanned())["comfy/models/vae/qwen_image_vae.safetensors"]!;
    expect(file).toMatchObject({ identity: { kind: "vae" }, models: { length: 6 }, publishedBytes: 253_806_246 });
    expect(file.bytes).toBeGreaterThan(253_806_246);
  });
});

test("a name that no catalogue has still claims a release", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("models"));
  const claims = {
    "Qwen-Image-Edit-Plus-2509-mine": "Qwen-Image-Edit-2509",
    qwen_image_2512_fp8: "Qwen-Image-2512",
    "my-qwen-image-edit": "Qwen-Image-Edit",
    "qwen-image-layered": "Qwen-Image-Layered",
    qwen_image: undefined,
    other: undefined,
  };
  for (const name of Object.keys(claims)) await place(home.at(`models/${name}.safetensors`), "transformer");
  const files = await scanned();
  expect(
    Object.fromEntries(
      Object.entries(files).map(([path, { claimed }]) => [
        path.slice("models/".length, -".safetensors".length),
        claimed,
      ]),
    ),
  ).toEqual(claims);
});

test("a ComfyUI tree, its extra paths and the cache are scanned together, each file once", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("comfy/models"));
  await place(home.at("comfy/models/vae/a.safetensors"), "vae");
  await place(home.at("comfy/models/unet/later.safetensors"), "transformer-2511");
  await place(home.at("comfy/custom_nodes/pack/weights.safetensors"), "vae");
  await note(
    home.at("comfy/extra_model_paths.yaml"),
    `x:\n  base_path: ${home.at("webui")}\n  loras: |\n    models/Lora\n    models/Lora/\n  vae: models/VAE\n`,
  );
  await place(home.at("webui/models/Lora/style.safetensors"), "loras/second");
  await mkdir(home.at("webui/models/VAE"), { recursive: true });
  await symlink(home.at("comfy/models/vae/a.safetensors"), home.at("webui/models/VAE/same.safetensors"));
  await cached(
    home.at(".cache/huggingface/hub"),
    ["somebody/encoder", "1", "te.safetensors"],
    "text-encoder-no-vision",
  );
  const files = await scanned();
  expect(Object.entries(files).map(([path, { source, identity }]) => [path, source, identity?.network])).toEqual([
    ["comfy/models/unet/later.safetensors", "QEDIT_MODELS", "Qwen-Image-Edit-2511 transformer, 2 blocks"],
    ["comfy/models/vae/a.safetensors", "QEDIT_MODELS", "Qwen-Image VAE (the structure of Wan 2.1), 16 latent channels"],
    ["webui/models/Lora/style.safetensors", "extra_model_paths.yaml", "LoRA for Qwen-Image and its Edit releases"],
    [
      ".cache/huggingface/hub/models--somebody--encoder/snapshots/1/te.safetensors",
      "Hugging Face cache",
      "Qwen2.5 text encoder, 2 layers of 24",
    ],
  ]);
  expect(files[".cache/huggingface/hub/models--somebody--encoder/snapshots/1/te.safetensors"]!.identity).toMatchObject({
    hasVision: false,
    notes: [expect.stringContaining("cannot see pictures")],
  });
});

test("a sharded checkpoint is one entry with the bytes of all its parts", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("model"));
  await mkdir(home.at("model/text_encoder"), { recursive: true });
  await rewritten(await readSafetensors(fixture("tiny/text-encoder-fp32.safetensors")), {
    folder: home.at("model/text_encoder"),
    file: "model.safetensors",
    shards: 3,
  });
  const files = await scanned();
  expect(Object.keys(files)).toEqual(["model/text_encoder/model.safetensors.index.json"]);
  const sizes = await Promise.all(
    (await readdir(home.at("model/text_encoder")))
      .filter((name) => name.endsWith(".safetensors"))
      .map((name) => stat(home.at(`model/text_encoder/${name}`))),
  );
  expect(Object.values(files)[0]).toMatchObject({
    identity: { kind: "text-encoder", hasVision: true },
    bytes: sizes.reduce((sum, { size }) => sum + size, 0),
  });
});

test("files that cannot be run are told with the reason, and never opened further than their head", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("models"));
  await note(home.at("models/old.ckpt"), "PK\u0003\u0004archive/data.pkl");
  await writeFile(home.at("models/pickle.bin"), Uint8Array.of(0x80, 2, 0x8a, 10));
  await note(home.at("models/firmware.bin"), "not a model at all");
  await note(home.at("models/q4.gguf"), "GGUF");
  await note(home.at("models/cut.safetensors"), "");
  await note(home.at("models/pointer.safetensors"), "version https://git-lfs.github.com/spec/v1\n");
  const head = Buffer.alloc(16);
  head.writeBigUInt64LE(200_000_000n);
  head[8] = 0x7b;
  await writeFile(home.at("models/huge.safetensors"), head);
  const files = await scanned();
  expect(
    Object.fromEntries(Object.entries(files).map(([path, { refused }]) => [path.slice("models/".length), refused])),
  ).toEqual({
    "cut.safetensors": expect.stringContaining("the file is empty"),
    "huge.safetensors": expect.stringContaining("at most 100000000 are allowed"),
    "old.ckpt": expect.stringContaining("a Python pickle, which can run any code"),
    "pickle.bin": expect.stringContaining("a Python pickle"),
    "pointer.safetensors": expect.stringContaining("Git LFS pointer"),
    "q4.gguf": expect.stringContaining("cut off"),
  });
});

test("only named folders are scanned when asked for", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("models"));
  await place(home.at("models/a.safetensors"), "vae-fp32");
  await place(home.at("other/b.safetensors"), "vae-fp32");
  expect(Object.keys(await scanned({ modelsDirs: [home.at("other")], only: true }))).toEqual(["other/b.safetensors"]);
});

describe("identify", () => {
  const identityOf = async (file: string) => identify(await readSafetensors(fixture(`tiny/${file}.safetensors`)));

  test.each([
    ["transformer-bf16", { kind: "transformer", dtype: "BF16", isScaled: false }],
    ["transformer-scaled-fp8", { kind: "transformer", dtype: "F8_E4M3", isScaled: true }],
    ["text-encoder-comfy-quant", { kind: "text-encoder", isScaled: true, hasVision: true }],
    ["loras/second", { kind: "lora", lora: { ranks: [3], layout: "kohya", modules: 8 } }],
    ["loras/lora-a-b-default", { kind: "lora", lora: { ranks: [4], layout: "PEFT with adapter name" } }],
    ["golden/edit-1", { kind: "other" }],
  ])("names %s", async (file, wanted) => {
    expect(await identityOf(file)).toMatchObject(wanted);
  });

  const stored = { dtype: "BF16", shape: [4, 8], file: "x", offset: 0, length: 64 } as const;
  const ofShapes = (tensors: Readonly<Record<string, readonly number[]>>) =>
    identify({
      file: "x",
      metadata: {},
      tensors: new Map(Object.entries(tensors).map(([name, shape]) => [name, { ...stored, shape }])),
    });
  const layer = (width: number) => ({
    "model.language_model.layers.0.input_layernorm.weight": [width],
    "model.language_model.layers.0.self_attn.q_proj.weight": [4096, width],
    "model.language_model.layers.0.self_attn.q_norm.weight": [128],
  });
  const tower = { "model.visual.merger.norm.weight": [1152], "model.visual.blocks.0.norm1.weight": [1152] };

  test.each([
    [
      "its transformer, behind a prefix",
      Object.fromEntries(
        [
          "txt_in.text_norm",
          "transformer_blocks.0.attn.to_q",
          "transformer_blocks.1.attn.to_q",
          "img_in",
          "proj_out",
          "a",
        ].map((name) => [`model.diffusion_model.${name}.weight`, [8, 8]]),
      ),
      { kind: "transformer", network: "Qwen-Image-2.1 or Turbo transformer, 2 blocks", notes: [] },
    ],
    [
      "its text encoder",
      { ...layer(4096), ...tower },
      { kind: "text-encoder", network: "Qwen3-VL text encoder, 1 layers of 4096", hasVision: true, notes: [] },
    ],
    [
      "a smaller Qwen3-VL",
      { ...layer(2560), ...tower },
      { kind: "text-encoder", notes: ["gives 2560 numbers a token, Qwen-Image-2.1 takes 4096"] },
    ],
    ["one without vision", layer(4096), { kind: "text-encoder", network: "Qwen3 text encoder, 1 layers of 4096" }],
    [
      "its vision tower alone",
      { "visual.merger.norm.weight": [1152], "visual.blocks.0.norm1.weight": [1152] },
      { kind: "other", network: "Qwen3-VL vision tower (mmproj), 1 blocks" },
    ],
    [
      "its VAE",
      {
        "conv2.weight": [64, 64, 1, 1, 1],
        "decoder.upsamples.0.upsamples.0.residual.2.weight": [1152, 1152, 3, 3, 3],
        "encoder.conv1.weight": [96, 4, 3, 3, 3],
      },
      { kind: "vae", network: "Qwen-Image-2.1 VAE, 64 latent channels" },
    ],
    [
      "a LoRA for it",
      {
        "transformer_blocks.0.img_mlp.gate_layer.lora_A.weight": [4, 8],
        "transformer_blocks.0.img_mlp.gate_layer.lora_B.weight": [8, 4],
      },
      { kind: "lora", network: "LoRA for Qwen-Image-2.1", notes: [] },
    ],
  ] as const)("of Qwen-Image-2.1 names %s", (_, shapes, wanted) => {
    expect(ofShapes(shapes as Readonly<Record<string, readonly number[]>>)).toMatchObject(wanted);
  });

  test("a LoRA of another model, and forms that are not computed, are told", () => {
    const stored = { dtype: "F32", shape: [4, 8], file: "x", offset: 0, length: 128 } as const;
    const of = (...names: string[]) =>
      identify({ file: "x", metadata: {}, tensors: new Map(names.map((name) => [name, stored])) });
    expect(of("lora_unet_down_blocks_0.lora_down.weight", "lora_unet_down_blocks_0.lora_up.weight")).toMatchObject({
      kind: "lora",
      network: "LoRA for another model",
      notes: ["fits no transformer that qedit runs"],
    });
    expect(of("transformer_blocks.0.img_mlp.net.2.lokr_w1")).toMatchObject({
      kind: "lora",
      network: "LoKr for Qwen-Image and its Edit releases",
      lora: { ranks: [], layout: "LyCORIS", modules: 1 },
      notes: [],
    });
    expect(of("transformer_blocks.0.img_mlp.net.2.oft_diag")).toMatchObject({
      kind: "lora",
      notes: [expect.stringContaining("OFT")],
    });
  });
});

test("a folder that cannot be read is refused with the reason, before anything in it is looked for", async () => {
  await chmod(folder.path, 0o755);
  await mkdir(folder.at("locked"), { mode: 0o300 });
  await expect(asNobody(() => refuseUnscannable(folder.at("locked")))).rejects.toMatchObject({
    code: "QEDIT_E_IO",
    message: `Cannot read ${folder.at("locked")}: permission denied`,
  });
  await expect(refuseUnscannable(folder.path)).resolves.toBeUndefined();
});
