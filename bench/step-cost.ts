// The processor time of an evaluation with a step cache beside one without: computed whole, and by the first block alone. A transformer of 60 blocks with
// random weights, narrowed to a twelfth of the published width so that a CPU runs it; a target and a reference of 512², 200 tokens of text, in float32.
// node --import ./test/support/run-typescript.mjs bench/step-cost.ts [--rounds 5] [--threads 1]     the three take turns; prints a table in Markdown
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { publishedTensors } from "../fixtures/headers/published.js";
import { threadedEngine } from "../src/engine/sessions/threaded.js";
import { transformerOf } from "../src/models/transformers.js";
import { randn } from "../src/sampling/noise/noise.js";
import { numbersOf, openModel } from "../src/stages/networks/model-handle.js";
import { withTransformer } from "../src/stages/networks/open-transformer.js";
import { velocityOf } from "../src/stages/networks/velocity.js";
import { elementCount, float32 } from "../src/std/tensor.js";
import { randomCheckpoint } from "./random-checkpoint.js";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, threads: { type: "string", default: "1" } },
});
const NARROWED = 12;
const SHAPE = [1, 16, 64, 64];
const SIGMA = 0.5;
/** The thresholds of the three: none, one that nothing passes, one that everything passes. */
const SIDES = { "without a step cache": undefined, "with one, computed whole": 0, "with one, reused": 1e9 };
const noise = (seed: number, shape: readonly number[]) => float32(shape, randn(seed, elementCount(shape)));

const folder = await mkdtemp(join(tmpdir(), "qedit-step-cost-"));
const engine = threadedEngine({ provider: "cpu", index: 0, threads: Number(values.threads) });
try {
  const path = join(folder, "transformer.safetensors");
  const narrow = (length: number) => (length % 3072 === 0 ? length / NARROWED : length);
  const tensors = publishedTensors("qwen_image_edit_2509_fp8_e4m3fn");
  await randomCheckpoint(
    path,
    tensors.map((each) => ({ ...each, shape: each.shape.map(narrow) })),
  );
  const file = await openModel(path, "transformer");
  const network = transformerOf(numbersOf(file.checkpoint), file.config);
  const prompts = { positive: { embeds: noise(1, [1, 200, network.textWidth]) }, negative: undefined };
  const conditions = { shape: SHAPE, references: [noise(2, SHAPE)], prompts, network };
  const latent = noise(3, SHAPE);
  const context = { engine, emit: () => {}, signal: new AbortController().signal };

  const seconds = new Map<string, number[]>();
  const open = async (
    sides: readonly (readonly [string, number | undefined])[],
    evaluate: (() => Promise<void>)[],
  ): Promise<void> => {
    const [side, ...others] = sides;
    if (side === undefined) {
      for (let round = 0; round <= Number(values.rounds); round += 1) for (const each of evaluate) await each();
      return;
    }
    const [name, stepCache] = side;
    const run = { ...{ file, network, conditions, stepCache, loras: [], sigmas: [SIGMA] }, compute: "f32" } as const;
    await withTransformer(run, context, (opened) => {
      const velocity = velocityOf(opened, conditions);
      return open(others, [
        ...evaluate,
        async () => {
          const begun = process.cpuUsage();
          await velocity(latent.data, SIGMA, "positive");
          const { user, system } = process.cpuUsage(begun);
          seconds.set(name, [...(seconds.get(name) ?? []), (user + system) / 1e6]);
        },
      ]);
    });
  };
  await open(Object.entries(SIDES), []);
  // The first round opens what opens late, and is the one that the reused ones reuse.
  const median = (name: string) => {
    const sorted = seconds
      .get(name)!
      .slice(1)
      .sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)]!;
  };
  const whole = median("without a step cache");
  console.log("| an evaluation | CPU seconds, median | share |\n| --- | ---: | ---: |");
  for (const name of Object.keys(SIDES))
    console.log(`| ${name} | ${median(name).toFixed(2)} | ${((100 * median(name)) / whole).toFixed(1)} % |`);
} finally {
  await engine.dispose();
  await rm(folder, { recursive: true, force: true });
}
