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
import type { ModelHandle } from "../../src/stages/networks/model-handle.js";
import { temporaryFolder } from "../support/folder.js";
import { publishedLora } from "../support/full-size.js";
import { processorTime } from "../support/processor-time.js";

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
  return { checkpoint, config: checkpointConfig(checkpoint), identity: name, name };
}

async function filesOf(transformer: PublishedName, loras: readonly ActiveLora[] = []): Promise<StageFiles> {
  return {
    vae: await handle("qwen_image_vae"),
    textEncoder: await handle("qwen_2.5_vl_7b_fp8_scaled"),
    transformer: await handle(transformer),
    loras,
  };
}

function built(files: StageFiles, type: DType) {
  const compute = { vae: "f32", textEncoder: type, transformer: type } as const;
  return stageModels(files, { images: 3, hasCfg: true, cfgNorm: 1, compute, device: CPU });
}

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
