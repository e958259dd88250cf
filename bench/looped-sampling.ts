// The sampler's loop inside a graph, as exports have it, against the loop in TypeScript over a session of one step: the same weights, shapes and steps.
// npx tsx bench/looped-sampling.ts [--form full|none|both] [--steps 4] [--side 256] [--rounds 5] [--model tiny|blocks]
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { directEngine } from "../src/engine/sessions/direct.js";
import { modelOf, type Optimization, withSession } from "../src/engine/sessions/engine.js";
import { sampledQwenImage } from "../src/export/graphs/sampled-qwen-image.js";
import { joinGraph, samplerGraph } from "../src/export/graphs/sampler-graph.js";
import { modelTensors } from "../src/export/triton/tensor-specs.js";
import { qwenImage } from "../src/models/qwen-image/family.js";
import { transformerConfig } from "../src/models/qwen-image/transformer-config.js";
import { latentStatistics } from "../src/models/vaes.js";
import { sampleLatent, samplingSigmas } from "../src/sampling/driver.js";
import { evaluatedSigmas } from "../src/sampling/evaluated.js";
import { randn } from "../src/sampling/noise/noise.js";
import { type ModelHandle, numbersOf, openModel } from "../src/stages/networks/model-handle.js";
import { openModulation } from "../src/stages/networks/modulation-table.js";
import { withTransformer } from "../src/stages/networks/open-transformer.js";
import { velocityOf } from "../src/stages/networks/velocity.js";
import { float32, type Tensor } from "../src/std/tensor.js";
import { editWidths } from "../test/export/triton/edit-widths.js";
import { FILES } from "./networks.js";
import { randomCheckpoint } from "./random-checkpoint.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "blocks" },
    form: { type: "string", default: "both" },
    steps: { type: "string", default: "4" },
    side: { type: "string", default: "256" },
    rounds: { type: "string", default: "5" },
  },
});
const TEXT = 200;
const CELL = 8;
/** No memory plan cuts the transformer into groups. */
const PLENTY = 2 ** 50;

const cells = Number(values.side) / CELL;
const sampling = {
  ...{ sampler: "euler", scheduler: "simple", steps: Number(values.steps), denoise: 1, shift: 3, cfg: 1, seed: 42n },
  cfgNorm: undefined,
};
const noise = (seed: number, shape: readonly number[]) =>
  float32(
    shape,
    randn(
      seed,
      shape.reduce((a, b) => a * b),
    ),
  );
const shape = [1, 16, cells, cells];
const statistics = latentStatistics(16);

const folder = await mkdtemp(join(tmpdir(), "qedit-loop-"));
const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
try {
  const file = await openTransformer();
  console.log("| weights | loop in TypeScript | loop in the graph | ratio | processor | peak difference |");
  console.log("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const form of ["full", "none"] as const) if ([form, "both"].includes(values.form)) await compare(file, form);
} finally {
  await engine.dispose();
  await rm(folder, { recursive: true });
}

async function openTransformer(): Promise<ModelHandle> {
  if (values.model === "tiny")
    return openModel(
      fileURLToPath(new URL("../fixtures/tiny-model/tiny_edit_fp8_e4m3fn.safetensors", import.meta.url)),
      "transformer",
    );
  const path = join(folder, "transformer.safetensors");
  const { tensors, metadata } = FILES["transformer-2"];
  await randomCheckpoint(path, tensors(), metadata);
  return openModel(path, "transformer");
}

interface Times {
  readonly wall: number;
  readonly processor: number;
}

async function compare(file: ModelHandle, form: Optimization): Promise<void> {
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const network = qwenImage(config);
  const prompts = { positive: { embeds: noise(3, [1, TEXT, config.textWidth]) }, negative: undefined };
  const references = [noise(2, shape)];
  const conditions = { shape, references, prompts, network };
  const run = {
    file,
    network,
    compute: "f32",
    loras: [],
    sigmas: await evaluatedSigmas(sampling),
    conditions,
  } as const;
  const context = {
    ...{ engine, emit: () => {}, signal: new AbortController().signal },
    // A limit keeps weights as they are stored.
    ...(form === "none" && { vram: PLENTY }),
  };
  const tensors = modelTensors(
    editWidths({ tokenWidth: config.patchWidth, promptWidth: config.textWidth, pixelWidth: 1 }),
  );
  const sampled = sampledQwenImage(config);
  const options = {
    checkpoint: file.checkpoint,
    adapters: [],
    compute: "f32",
    optimization: form,
    cfgNorm: undefined,
  } as const;
  const { graph } = samplerGraph(tensors.get("sample")!, sampled, options);
  const join = joinGraph(tensors.get("join_1")!, sampled);
  const packed = await withSession(engine, await modelOf(join.graph, "full"), (session) =>
    session.run({ latent_1: references[0]! }),
  );
  const sigmas = samplingSigmas(sampling);
  const feeds = {
    ...packed,
    noise: noise(42, shape),
    prompt_embeds: prompts.positive.embeds,
    sigmas: float32([sigmas.length], sigmas),
  };
  await withTransformer(run, context, async (opened) => {
    const velocity = velocityOf(opened, conditions);
    const inTypeScript = async () => {
      // The graph computes its modulation in each run; qedit does so once for a run, before its transformer opens.
      if (form === "none") await openModulation(run, run.sigmas, context);
      return sampleLatent(velocity, sampling, { latent: float32(shape), ...statistics });
    };
    await withSession(engine, await modelOf(graph, form), async (session) => {
      const inGraph = async () => (await session.run(feeds))["latents"]!;
      const times: { typescript: Times[]; graph: Times[] } = { typescript: [], graph: [] };
      let error = 0;
      for (let round = 0; round <= Number(values.rounds); round++) {
        const [wanted, typescript] = await timed(inTypeScript);
        const [found, graph] = await timed(inGraph);
        error = largestDifference(found, wanted);
        // The first runs take memory.
        if (round === 0) continue;
        times.typescript.push(typescript);
        times.graph.push(graph);
      }
      report(form, times, error);
    });
  });
}

async function timed<T>(run: () => Promise<T>): Promise<[T, Times]> {
  const [start, before] = [performance.now(), process.cpuUsage()];
  const result = await run();
  const { user, system } = process.cpuUsage(before);
  return [result, { wall: performance.now() - start, processor: (user + system) / 1000 }];
}

function report(
  form: Optimization,
  { typescript, graph }: { typescript: Times[]; graph: Times[] },
  error: number,
): void {
  const median = (list: Times[], key: keyof Times) =>
    list.map((each) => each[key]).sort((a, b) => a - b)[list.length >> 1]!;
  const ratio = (key: keyof Times) => (median(graph, key) / median(typescript, key)).toFixed(3);
  const seconds = (list: Times[]) => `${(median(list, "wall") / 1000).toFixed(2)} s`;
  const weights = form === "full" ? "widened when opened" : "as stored, fp8";
  console.log(
    `| ${weights} | ${seconds(typescript)} | ${seconds(graph)} | ${ratio("wall")} | ${ratio("processor")} | ${error.toExponential(1)} |`,
  );
}

function largestDifference(latents: Tensor, samples: Tensor): number {
  const area = cells * cells;
  const { mean, std } = statistics;
  const wanted = (samples.data as Float32Array).map((value, index) => {
    const channel = Math.floor(index / area);
    return (value - mean[channel]!) / std[channel]!;
  });
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (
    wanted.reduce((most, value, index) => Math.max(most, Math.abs(value - Number(latents.data[index]))), 0) / largest
  );
}
