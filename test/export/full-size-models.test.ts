// The exported models at full size, over sparse files of the published layouts: how long they take to build and to open, and what they hold.
import { expect, test } from "vitest";
import { type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { type StageFiles, stageModels } from "../../src/export/triton/stage-models.js";
import type { DType } from "../../src/graph/types.js";
import type { ActiveLora } from "../../src/stages/networks/loras.js";
import { type ModelHandle, openModel } from "../../src/stages/networks/model-handle.js";
import { temporaryFolder } from "../support/folder.js";
import { publishedLora } from "../support/full-size.js";
import { processorTime } from "../support/processor-time.js";
import { publishedFile } from "../support/rotated-file.js";

/** Seconds, of the processor for what this process computes alone. */
const MOST_TO_WRITE = 5;
const MOST_TO_OPEN = 3;
/** Bytes of the largest graph, weights apart: one network's nodes, not one for each step. */
const MOST_BYTES = 5e6;

const folder = temporaryFolder();
const CPU = { provider: "cpu", index: 0, threads: 0 } as const;

async function handle(name: PublishedName): Promise<ModelHandle> {
  const path = folder.at(`${name}.safetensors`);
  await sparseCheckpoint(path, publishedTensors(name));
  const checkpoint = await readSafetensors(path);
  return {
    checkpoint,
    config: checkpointConfig(checkpoint),
    identity: name,
    stamps: new Map(),
    lookups: [],
    states: [],
    name,
  };
}

async function filesOf(transformer: PublishedName, loras: readonly ActiveLora[] = []): Promise<StageFiles> {
  return {
    vae: await handle("qwen_image_vae"),
    textEncoder: await handle("qwen_2.5_vl_7b_fp8_scaled"),
    transformer: await handle(transformer),
    loras,
  };
}

// As ComfyUI publishes it.
async function filesOf2(name: "qwen_image_2.1_bf16" | "qwen_image_2.1_int8_convrot"): Promise<StageFiles> {
  const open = async (file: Parameters<typeof publishedFile>[1], role: "textEncoder" | "transformer") => {
    const path = folder.at(`${file}.safetensors`);
    await publishedFile(path, file);
    return openModel(path, role);
  };
  return {
    vae: await handle("qwen_image_2.1_vae_bf16"),
    textEncoder: await open(
      name === "qwen_image_2.1_bf16" ? "qwen3vl_8b_bf16" : "qwen3vl_8b_int8_convrot",
      "textEncoder",
    ),
    transformer: await open(name, "transformer"),
    loras: [],
  };
}

function built(files: StageFiles, type: DType) {
  const compute = { vae: "f32", textEncoder: type, transformer: type } as const;
  return stageModels(files, { images: 3, hasCfg: true, cfgNorm: 1, compute, device: CPU });
}

test.each([
  ["qwen_image_2.1_bf16", "bf16"],
  ["qwen_image_2.1_int8_convrot", "f32"],
] as const)("%s in %s is built and written in seconds, and its sessions open", async (transformer, type) => {
  const files = await filesOf2(transformer);
  const spent = processorTime();
  const models = built(files, type);
  const written = await Promise.all(models.map(async ({ graph }) => (await modelOf(graph, "none")).bytes.length));
  expect(spent() / 1000).toBeLessThan(MOST_TO_WRITE);
  expect(Math.max(...written)).toBeLessThan(MOST_BYTES);
  expect(models.map(({ name }) => name)).toContain("join_0");
  const sampled = models.find(({ name }) => name === "sample")!.graph.externals;
  const unread = [...files.transformer.checkpoint.tensors.keys()].filter((name) => !sampled.has(name));
  expect(unread.filter((name) => !name.endsWith(".comfy_quant"))).toEqual([]);
  if (type === "bf16") return;
  const engine = await directEngine(CPU);
  for (const name of ["encode_prompt", "sample", "sample_cfg"]) {
    const { graph, optimization } = models.find((each) => each.name === name)!;
    expect(optimization).toBe("none");
    const model = await modelOf(graph, optimization);
    const opening = processorTime();
    await withSession(engine, model, async () => {
      expect(opening() / 1000).toBeLessThan(MOST_TO_OPEN);
      expect(process.memoryUsage.rss()).toBeLessThan(8e9);
    });
  }
});

// Its file is not there: it is read when a session opens.
const lightning = { adapter: publishedLora(), strength: 1 } as unknown as ActiveLora;

test.each<[PublishedName, DType, readonly ActiveLora[]]>([
  ["qwen_image_edit_2509_fp8_e4m3fn", "bf16", [lightning]],
  ["qwen_image_edit_2511_bf16", "bf16", []],
  ["qwen_image_edit_2509_fp8_e4m3fn", "f32", []],
])("%s in %s is built and written in seconds, each network once", async (transformer, type, loras) => {
  const files = await filesOf(transformer, loras);
  const spent = processorTime();
  const models = built(files, type);
  const sizes = new Map<string, number>();
  for (const { name, graph } of models) sizes.set(name, (await modelOf(graph, "none")).bytes.length);
  expect(spent() / 1000).toBeLessThan(MOST_TO_WRITE);
  expect(Math.max(...sizes.values())).toBeLessThan(MOST_BYTES);
  // Guidance runs the transformer twice, over the same weights.
  const weights = (name: string) => models.find((each) => each.name === name)!.graph.externals;
  expect([...weights("sample_cfg").keys()]).toEqual([...weights("sample").keys()]);
});

test.each(["encode_prompt", "sample", "sample_cfg"])("a session of %s opens in seconds", async (name) => {
  const { graph, optimization } = built(await filesOf("qwen_image_edit_2509_fp8_e4m3fn"), "f32").find(
    (each) => each.name === name,
  )!;
  expect(optimization).toBe("none");
  const engine = await directEngine(CPU);
  const model = await modelOf(graph, optimization);
  const spent = processorTime();
  await withSession(engine, model, async () => {
    expect(spent() / 1000).toBeLessThan(MOST_TO_OPEN);
    expect(process.memoryUsage.rss()).toBeLessThan(8e9);
  });
});
