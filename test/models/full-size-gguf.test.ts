// GGUF files of full size, by headers as quantisers of the published models write them, over sparse files: every tensor is used, sessions open, and
// plans say what they take.
import { mkdir, open, rm } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { type Checkpoint, STORED_BYTES, type StoredTensor } from "../../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import type { RepackedFile } from "../../src/checkpoint/packed/packed-layout.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { type WritableTensor, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer, isIdleInLastBlock } from "../../src/models/qwen-image/transformer.js";
import { isIdleInTransformer, transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { textEncoderOf } from "../../src/models/text-encoders.js";
import { transformerOf } from "../../src/models/transformers.js";
import { randn } from "../../src/sampling/noise/noise.js";
import { planNetwork } from "../../src/stages/networks/memory-plan.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { transformerNeeds } from "../../src/stages/networks/transformer-plan.js";
import { deviceBytes } from "../../src/stages/networks/within-memory.js";
import { elementCount, float32, type Tensors } from "../../src/std/tensor.js";
import { scaledError } from "../parity/table.js";
import { temporaryFolder } from "../support/folder.js";
import { build } from "../support/full-size.js";
import { F32, floats, repackedTo, sparseGguf, writeGguf } from "../support/gguf.js";
import { openNetwork } from "../support/graphs.js";
import { LLAMA_NAMES } from "../support/llama-names.js";
import { randomBlocks } from "../support/random-blocks.js";

const folder = temporaryFolder();
let sparseFiles = 0;
const home = process.env["QEDIT_HOME"];
const GIB = 1024 ** 3;
/** Tokens of an edit of a megapixel with one picture. */
const EDIT = { text: 300, target: 4096, references: [4096] };

beforeAll(() => {
  process.env["QEDIT_HOME"] = folder.at("home");
  return () => {
    if (home === undefined) delete process.env["QEDIT_HOME"];
    else process.env["QEDIT_HOME"] = home;
  };
});

/** The type of each matrix of the blocks as quantisers choose it: Q4_K_M is 13.0 GB, as the published files, and Q4_K_S has outer blocks of more bits. */
const MIXES = {
  Q4_K_M: (name) => (/(_mlp\.net\.2|\.to_v|\.add_v_proj)\.weight$/.test(name) ? "Q6_K" : "Q4_K"),
  Q4_K_S: (name) => (/^transformer_blocks\.(0|59)\./.test(name) ? "Q6_K" : "Q4_K"),
  Q3_K_M: (name) => (/_mlp\.net\.2\.weight$/.test(name) ? "Q4_K" : /\.to_v\.weight$/.test(name) ? "Q5_K" : "Q3_K"),
  Q8_0: () => "Q8_0",
} as const satisfies Readonly<Record<string, (name: string) => BlockTypeName>>;

/** A published transformer, its blocks quantised, what is before and behind them in bfloat16. */
async function quantised(file: PublishedName, mix: keyof typeof MIXES): Promise<string> {
  const tensors = publishedTensors(file).map(({ name, shape }) => {
    const isInBlock = shape.length === 2 && /^transformer_blocks\..*weight$/.test(name);
    const dtype = isInBlock ? MIXES[mix](name) : shape.length === 2 ? "BF16" : "F32";
    const type = dtype === "BF16" ? BFLOAT16 : dtype === "F32" ? F32 : BLOCK_TYPES[dtype].id;
    const length = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
    return [name, { shape: shape.length === 0 ? [1] : shape, type, length }] as const;
  });
  const values = { "general.architecture": { text: "qwen_image" } };
  return sparseGguf(folder.at(`${file}-${mix}.gguf`), values, Object.fromEntries(tensors));
}

describe.each([
  ["qwen_image_edit_2509_fp8_e4m3fn", "Q4_K_M"],
  ["qwen_image_edit_2509_fp8_e4m3fn", "Q3_K_M"],
  ["qwen_image_edit_2509_fp8_e4m3fn", "Q8_0"],
  ["qwen_image_edit_2511_bf16", "Q4_K_M"],
  ["qwen_image_edit_2511_bf16", "Q4_K_S"],
  ["qwen_image_edit_2511_bf16", "Q8_0"],
] as const)("%s in %s", (file, mix) => {
  test("opens by its header, uses every tensor, and a session of its first blocks opens over the repacked file", async () => {
    const handle = await openModel(await quantised(file, mix), "transformer");
    const { checkpoint, config: json, repacked } = handle;
    const config = transformerConfig(numbersOf(checkpoint), json);
    expect(config).toMatchObject({ blocks: 60, referencesAtZero: file.includes("2511") });
    const { unused } = build(checkpoint, [(graph, w) => buildTransformer(graph, w, { config, compute: "bf16" })]);
    expect(unused.filter((name) => !isIdleInLastBlock(name, config) && !isIdleInTransformer(name))).toEqual([]);
    const moved = await sparselyRepacked(checkpoint, repacked!);
    const { graphs } = build(moved, [
      (graph, w) =>
        buildTransformer(graph, w, { config, compute: "f32", blocks: { from: 0, to: 4 }, isModulationFed: true }),
    ]);
    const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
    await withSession(engine, await modelOf(graphs[0]!, "none"), async () => {
      expect(graphs[0]!.nodes.length).toBeGreaterThan(200);
    });
  });
});

/** A checkpoint over its repacked file, whose weights are a hole. */
async function sparselyRepacked(checkpoint: Checkpoint, { path, layout }: RepackedFile): Promise<Checkpoint> {
  const file = folder.at(`${sparseFiles++}.safetensors`);
  const written = await open(file, "w");
  await written.write(layout.header);
  await written.truncate(layout.bytes);
  await written.close();
  const own = (stored: StoredTensor) => (stored.file === path ? { ...stored, file } : stored);
  return { ...checkpoint, tensors: new Map([...checkpoint.tensors].map(([name, stored]) => [name, own(stored)])) };
}

const FLOAT16 = 1;
const BFLOAT16 = 30;

/** The published text encoder as llama.cpp writes it: the language model in a type of blocks, and its vision tower (mmproj) in float16 beside it. */
async function quantisedEncoder(type: BlockTypeName): Promise<string> {
  const [language, vision]: Record<string, Sparse>[] = [{}, {}];
  const add = (to: Record<string, Sparse>, name: string, shape: readonly number[], wanted: BlockTypeName | "F16") => {
    const dtype = shape.length === 1 || shape.at(-1)! % 32 !== 0 ? (shape.length === 1 ? "F32" : "F16") : wanted;
    const id = dtype === "F32" ? F32 : dtype === "F16" ? FLOAT16 : BLOCK_TYPES[dtype].id;
    to[name] = { shape, type: id, length: shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]) };
  };
  for (const { name, shape } of publishedTensors("qwen_2.5_vl_7b_fp8_scaled")) {
    if (/(\.scale_(weight|input)|^scaled_fp8)$/.test(name)) continue;
    const [isSeen, rename] = [name.startsWith("visual."), LLAMA_NAMES.find(([from]) => from.test(name))];
    const qkv = /^visual\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)$/.exec(name);
    if (qkv)
      for (const each of "qkv")
        add(vision!, `v.blk.${qkv[1]}.attn_${each}.${qkv[2]}`, [shape[0]! / 3, ...shape.slice(1)], "F16");
    else if (name === "visual.patch_embed.proj.weight")
      for (const frame of ["", ".1"])
        add(vision!, `v.patch_embd.weight${frame}`, [shape[0]!, shape[1]!, shape[3]!, shape[4]!], "F16");
    else add(isSeen ? vision! : language!, name.replace(...rename!), shape, isSeen ? "F16" : type);
  }
  await sparseGguf(folder.at(`encoder-${type}/mmproj-F16.gguf`), TOWER, vision!);
  return sparseGguf(folder.at(`encoder-${type}/Qwen2.5-VL-7B-Instruct-${type}.gguf`), LANGUAGE, language!);
}

type Sparse = Parameters<typeof sparseGguf>[2][string];

/** The numbers of Qwen2.5-VL-7B-Instruct's config.json, under llama.cpp's keys. */
const LANGUAGE = {
  "general.architecture": { text: "qwen2vl" },
  "qwen2vl.attention.head_count": { u32: 28 },
  "qwen2vl.attention.head_count_kv": { u32: 4 },
  "qwen2vl.attention.layer_norm_rms_epsilon": { f32: 1e-6 },
  "qwen2vl.rope.freq_base": { f32: 1_000_000 },
  "qwen2vl.rope.dimension_sections": { i32s: [16, 24, 24, 0] },
};
const TOWER = {
  "general.architecture": { text: "clip" },
  "clip.projector_type": { text: "qwen2.5vl_merger" },
  "clip.vision.attention.head_count": { u32: 16 },
  "clip.vision.block_count": { u32: 32 },
  "clip.vision.window_size": { u32: 112 },
  "clip.vision.n_wa_pattern": { u32: 8 },
};

test.each(["Q8_0", "Q4_K"] as const)(
  "a text encoder in %s opens with its mmproj, every tensor is used, and sessions of its first layers and its tower open",
  async (type) => {
    await mkdir(folder.at(`encoder-${type}`));
    const { checkpoint, config: json, repacked } = await openModel(await quantisedEncoder(type), "textEncoder");
    const numbers = numbersOf(checkpoint);
    const family = textEncoderOf(numbers);
    const [language, vision] = [family.languageConfig(numbers, json), family.visionConfig(numbers, json)];
    const { unused } = build(checkpoint, [
      (graph, w) => family.buildLanguageModel(graph, w, { config: language, compute: "bf16" }),
      (graph, w) => family.buildVisionTower(graph, w, { config: vision, compute: "bf16" }),
    ]);
    expect(unused.filter((name) => !family.isIdle(name))).toEqual([]);
    const { graphs } = build(await sparselyRepacked(checkpoint, repacked!), [
      (graph, w) =>
        family.buildLanguageModel(graph, w, { config: language, compute: "f32", layers: { from: 0, to: 2 } }),
      (graph, w) => family.buildVisionTower(graph, w, { config: vision, compute: "f32" }),
    ]);
    for (const graph of graphs) {
      const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
      await withSession(engine, await modelOf(graph, "none"), async () => {
        expect(graph.nodes.length).toBeGreaterThan(50);
      });
    }
  },
);

test("an edit of a megapixel fits 12 GiB of a GPU, in Q4_K_S with its weights there whole, and 6 GiB in groups of blocks", async () => {
  const device = { provider: "cuda", index: 0, threads: 0 } as const;
  for (const [mix, isWhole] of [
    ["Q4_K_M", false],
    ["Q4_K_S", true],
  ] as const) {
    const { checkpoint } = await openModel(await quantised("qwen_image_edit_2509_fp8_e4m3fn", mix), "transformer");
    const network = transformerOf(numbersOf(checkpoint), {});
    const file = { checkpoint };
    const needs = transformerNeeds({ file, network, compute: "bf16", loras: [], tokens: EDIT }, device);
    const within = (bytes: number) => planNetwork(needs, bytes - deviceBytes(0, device));
    expect(within(12 * GIB).groups.length === 1).toBe(isWhole);
    expect(within(6 * GIB).groups.length).toBeGreaterThan(1);
    for (const bytes of [12 * GIB, 6 * GIB]) expect(deviceBytes(within(bytes).peak, device)).toBeLessThanOrEqual(bytes);
  }
});

/** float32 sums of some thousand products in another order, beside the largest number. */
const SAME = 1e-4;
const TOKENS = { text: 16, target: 64 };

test.each(["Q8_0", "Q4_K"] as const)(
  "a transformer block of full width in %s gives what it gives with the numbers of its weights",
  async (type) => {
    const one = publishedTensors("qwen_image_edit_2509_fp8_e4m3fn").filter(
      ({ name }) => !name.startsWith("transformer_blocks.") || name.startsWith("transformer_blocks.0."),
    );
    const isMatrix = (name: string, shape: readonly number[]) =>
      shape.length === 2 && /^transformer_blocks\..*weight$/.test(name);
    const tensors = one.map(({ name, shape }, index) => {
      const noise = randn(index, Math.min(elementCount(shape), 1_000_003));
      if (isMatrix(name, shape)) return [name, randomBlocks(type, shape, noise)] as const;
      const small = noise.map((value) => value * 0.02);
      const numbers = new Float32Array(elementCount(shape));
      for (let at = 0; at < numbers.length; at += small.length) numbers.set(small.subarray(0, numbers.length - at), at);
      return [name, floats(shape, numbers)] as const;
    });
    const [packed, plain] = [folder.at(`block-${type}.gguf`), folder.at(`block-${type}-plain.safetensors`)];
    await writeGguf(packed, { values: { "general.architecture": { text: "qwen_image" } }, tensors });
    const quantised = await repackedTo(folder.at(`block-${type}.safetensors`), await openCheckpoint(packed));
    // The numbers of the matrices are exact in float16, in half the room.
    const entries: Record<string, WritableTensor> = {};
    for (const [name, stored] of quantised.tensors) {
      const half = isMatrix(name, stored.shape) ? { storedAs: "F16" as const } : {};
      entries[name] = { ...float32(stored.shape, await readTensor(stored)), ...half };
    }
    await writeSafetensors(plain, entries);
    const outputs = [];
    for (const checkpoint of [quantised, await openCheckpoint(plain)]) {
      await using network = await openNetwork(checkpoint, {
        optimization: "none",
        build: (graph, w) => buildTransformer(graph, w, { config: transformerConfig(w, {}), compute: "f32" }),
      });
      outputs.push((await network.session.run(feeds(checkpoint)))["velocity"]!.data as Float32Array);
    }
    expect(scaledError(outputs[0]!, outputs[1]!)).toBeLessThan(SAME);
    await Promise.all([packed, plain, folder.at(`block-${type}.safetensors`)].map((path) => rm(path)));
  },
);

function feeds(checkpoint: Checkpoint): Tensors {
  const config = transformerConfig(numbersOf(checkpoint), {});
  const grid = { rows: 8, columns: 8 };
  const { cos, sin } = ropeTables(TOKENS.text, [grid, grid], config);
  const noise = (shape: readonly number[], seed: number) => float32(shape, randn(seed, elementCount(shape)));
  return {
    latent_tokens: noise([1, TOKENS.target, config.patchWidth], 1),
    reference_tokens: noise([1, TOKENS.target, config.patchWidth], 2),
    prompt_embeds: noise([1, TOKENS.text, config.textWidth], 3),
    timestep: float32([1], Float32Array.of(0.75)),
    rope_cos: cos,
    rope_sin: sin,
  };
}
