// GGUF files of full size, by headers as quantisers of the published models write them, over sparse files: every tensor is used, sessions open, and
// plans say what they take.
import { open, rm } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { type Checkpoint, STORED_BYTES } from "../../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { type WritableTensor, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { ropeTables } from "../../src/models/qwen-image/tokens.js";
import { buildTransformer, isIdleInLastBlock } from "../../src/models/qwen-image/transformer.js";
import { isIdleInTransformer, transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
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
import { F32, floats, type GgufTensor, repackedTo, sparseGguf, writeGguf } from "../support/gguf.js";
import { openNetwork } from "../support/graphs.js";

const folder = temporaryFolder();
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

/** The matrices of the blocks in one type, those of the first and the last block in another; the rest as floats. */
async function quantised(file: PublishedName, type: BlockTypeName, outer: BlockTypeName): Promise<string> {
  const typeOf = (name: string) => (/^transformer_blocks\.(0|59)\./.test(name) ? outer : type);
  const tensors = publishedTensors(file).map(({ name, shape }) => {
    const isMatrix = shape.length === 2 && /^transformer_blocks\..*weight$/.test(name);
    const dtype = isMatrix ? typeOf(name) : ("F32" as const);
    const length = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
    return [
      name,
      { shape: shape.length === 0 ? [1] : shape, type: isMatrix ? BLOCK_TYPES[typeOf(name)].id : F32, length },
    ] as const;
  });
  const values = { "general.architecture": { text: "qwen_image" } };
  return sparseGguf(folder.at(`${file}-${type}.gguf`), values, Object.fromEntries(tensors));
}

describe.each([
  ["qwen_image_edit_2509_fp8_e4m3fn", "Q4_K", "Q6_K"],
  ["qwen_image_edit_2509_fp8_e4m3fn", "Q8_0", "Q8_0"],
  ["qwen_image_edit_2511_bf16", "Q4_K", "Q5_K"],
  ["qwen_image_edit_2511_bf16", "Q8_0", "Q8_0"],
] as const)("%s in %s and %s", (file, type, outer) => {
  test("opens by its header, uses every tensor, and a session of its first blocks opens over the repacked file", async () => {
    const handle = await openModel(await quantised(file, type, outer), "transformer");
    const { checkpoint, config: json, repacked } = handle;
    const config = transformerConfig(numbersOf(checkpoint), json);
    expect(config).toMatchObject({ blocks: 60, referencesAtZero: file.includes("2511") });
    const { unused } = build(checkpoint, [(graph, w) => buildTransformer(graph, w, { config, compute: "bf16" })]);
    expect(unused.filter((name) => !isIdleInLastBlock(name, config) && !isIdleInTransformer(name))).toEqual([]);
    const { path, layout } = repacked!;
    const written = await open(folder.at(`${file}-${type}.safetensors`), "w");
    await written.write(layout.header);
    await written.truncate(layout.bytes);
    await written.close();
    const moved = {
      ...checkpoint,
      tensors: new Map(
        [...checkpoint.tensors].map(([name, stored]) => [
          name,
          stored.file === path ? { ...stored, file: folder.at(`${file}-${type}.safetensors`) } : stored,
        ]),
      ),
    };
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

test("an edit of a megapixel in Q4_K fits 12 GiB of a GPU with its weights there whole, and 6 GiB in groups of blocks", async () => {
  const device = { provider: "cuda", index: 0, threads: 0 } as const;
  const path = await quantised("qwen_image_edit_2509_fp8_e4m3fn", "Q4_K", "Q6_K");
  const { checkpoint } = await openModel(path, "transformer");
  const network = transformerOf(numbersOf(checkpoint), {});
  const file = { checkpoint };
  const needs = transformerNeeds({ file, network, compute: "bf16", loras: [], tokens: EDIT }, device);
  const within = (bytes: number) => planNetwork(needs, bytes - deviceBytes(0, device));
  expect(within(12 * GIB).groups).toHaveLength(1);
  expect(within(6 * GIB).groups.length).toBeGreaterThan(1);
  for (const bytes of [12 * GIB, 6 * GIB]) expect(deviceBytes(within(bytes).peak, device)).toBeLessThanOrEqual(bytes);
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
      const value = (at: number) => noise[at % noise.length]! * 0.02;
      if (isMatrix(name, shape)) return [name, randomBlocks(type, shape, noise)] as const;
      return [
        name,
        floats(
          shape,
          Float32Array.from({ length: elementCount(shape) }, (_, at) => value(at)),
        ),
      ] as const;
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

// Blocks of random codes, with scales of the size that files have.
function randomBlocks(type: BlockTypeName, shape: readonly number[], noise: Float32Array): GgufTensor {
  const { id, bytes: size, elements } = BLOCK_TYPES[type];
  const places = { Q8_0: [0], Q4_K: [0, 2], Q6_K: [208] }[type as "Q8_0"];
  const bytes = new Uint8Array((elementCount(shape) / elements) * size);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.floor(Math.abs(noise[at % noise.length]!) * 997);
  // 2^-12: weights of some hundredths, fewer than 2^11 times that, which float16 has exactly.
  for (let at = 0; at < bytes.length; at += size)
    for (const place of places) {
      bytes[at + place] = 0;
      bytes[at + place + 1] = 0x0c;
    }
  return { shape, type: id, bytes };
}

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
