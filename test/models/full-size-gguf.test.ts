// GGUF files of full size, by headers as quantisers of the published models write them, over sparse files: every tensor is used, sessions open, and
// plans say what they take.
import { open } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { STORED_BYTES } from "../../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../../src/checkpoint/gguf/block-types.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { buildTransformer, isIdleInLastBlock } from "../../src/models/qwen-image/transformer.js";
import { isIdleInTransformer, transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { planNetwork } from "../../src/stages/networks/memory-plan.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { transformerNeeds } from "../../src/stages/networks/open-transformer.js";
import { deviceBytes } from "../../src/stages/networks/within-memory.js";
import { temporaryFolder } from "../support/folder.js";
import { build } from "../support/full-size.js";
import { F32, sparseGguf } from "../support/gguf.js";

const folder = temporaryFolder();
const home = process.env["QEDIT_HOME"];
const GIB = 1024 ** 3;
/** Tokens of an edit of a megapixel with one picture. */
const LENGTHS = { text: 300, target: 4096, reference: 4096 };

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
  const config = transformerConfig(numbersOf(checkpoint), {});
  const file = { checkpoint };
  const needs = transformerNeeds({ file, config, compute: "bf16", loras: [], lengths: LENGTHS }, device);
  const within = (bytes: number) => planNetwork(needs, bytes - deviceBytes(0, device));
  expect(within(12 * GIB).groups).toHaveLength(1);
  expect(within(6 * GIB).groups.length).toBeGreaterThan(1);
  for (const bytes of [12 * GIB, 6 * GIB]) expect(deviceBytes(within(bytes).peak, device)).toBeLessThanOrEqual(bytes);
});
