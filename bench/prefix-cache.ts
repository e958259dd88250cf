// A step of Qwen-Image-2.1's transformer with keys and values of text and references kept, and with all computed at every step, beside PyTorch: two
// blocks of full width in float32, two references and a target of 512², 100 tokens of text.
// node --import ./test/support/run-typescript.mjs bench/prefix-cache.ts [--python PYTHON] [--rounds 3] [--threads 2]     PYTHON has torch, diffusers 0.42.1 and safetensors
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { publishedTensors } from "../fixtures/headers/published.js";
import { Weights } from "../src/checkpoint/weights.js";
import { modelOf, withSession } from "../src/engine/sessions/engine.js";
import { threadedEngine } from "../src/engine/sessions/threaded.js";
import { Graph } from "../src/graph/graph.js";
import { transformerOf } from "../src/models/transformers.js";
import { randn } from "../src/sampling/noise/noise.js";
import { numbersOf, openModel } from "../src/stages/networks/model-handle.js";
import { withTransformer } from "../src/stages/networks/open-transformer.js";
import { fixedFeeds, velocityOf } from "../src/stages/networks/velocity.js";
import { elementCount, float32 } from "../src/std/tensor.js";
import { randomCheckpoint } from "./random-checkpoint.js";

const { values } = parseArgs({
  options: {
    python: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
  },
});
const BLOCKS = 2;
const SIDE = 32;
const SIGMA = 0.75;
const SHAPE = [1, 64, SIDE, SIDE];
const noise = (seed: number, shape: readonly number[]) => float32(shape, randn(seed, elementCount(shape)));

const folder = await mkdtemp(join(tmpdir(), "qedit-prefix-"));
const engine = threadedEngine({ provider: "cpu", index: 0, threads: Number(values.threads) });
try {
  const path = join(folder, "transformer.safetensors");
  const isKept = ({ name }: { name: string }) => Number(/^transformer_blocks\.(\d+)\./.exec(name)?.[1] ?? 0) < BLOCKS;
  await randomCheckpoint(path, publishedTensors("qwen_image_2.1_bf16").filter(isKept));
  const file = await openModel(path, "transformer");
  const network = transformerOf(numbersOf(file.checkpoint), file.config);
  const positive = { embeds: noise(3, [1, 100, network.textWidth]), imagePositions: [10, 40] };
  const references = [noise(1, SHAPE), noise(2, SHAPE)];
  const conditions = { shape: SHAPE, references, prompts: { positive, negative: undefined }, network };
  const latent = noise(4, SHAPE);

  const run = { file, network, compute: "f32", loras: [], sigmas: [SIGMA], conditions } as const;
  const context = { engine, emit: () => {}, signal: new AbortController().signal };
  const started = performance.now();
  const kept = await withTransformer(run, context, (opened) => {
    const opening = (performance.now() - started) / 1000;
    const velocity = velocityOf(opened, conditions);
    return median(() => velocity(latent.data, SIGMA, "positive")).then((step) => ({ step, opening }));
  });

  const graph = new Graph("the transformer");
  network.build(graph, Weights.of(graph, file.checkpoint), { compute: "f32", part: "whole", references: 2 });
  const feeds = {
    ...fixedFeeds(conditions).positive,
    ...network.targetFeeds(latent),
    timestep: float32([1], Float32Array.of(SIGMA)),
  };
  const without = await withSession(engine, await modelOf(graph, "full"), (session) =>
    median(() => session.run(feeds)),
  );

  console.log("| a step | qedit | PyTorch | ratio |");
  console.log("| --- | ---: | ---: | ---: |");
  const script = fileURLToPath(new URL("prefix_cache.py", import.meta.url));
  const peer =
    values.python === undefined
      ? undefined
      : (JSON.parse(
          execFileSync(values.python, [script, path, values.threads, values.rounds], {
            encoding: "utf8",
            env: { ...process.env, OMP_NUM_THREADS: values.threads },
          }),
        ) as { with: number; without: number });
  const row = (name: string, own: number, other: number | undefined) =>
    console.log(
      `| ${name} | ${own.toFixed(2)} s | ${other?.toFixed(2) ?? "-"} s | ${other ? (own / other).toFixed(2) : "-"} |`,
    );
  row("all computed", without, peer?.without);
  row("keys and values kept", kept.step, peer?.with);
  console.log(
    `opening, with keys and values computed once: ${kept.opening.toFixed(1)} s; a step is ${(without / kept.step).toFixed(2)} times as fast`,
  );
} finally {
  await engine.dispose();
  await rm(folder, { recursive: true, force: true });
}

// Seconds of the runs after the first.
async function median(work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round <= Number(values.rounds); round += 1) {
    const start = performance.now();
    await work();
    times.push((performance.now() - start) / 1000);
  }
  return times.slice(1).sort((a, b) => a - b)[Math.floor(Number(values.rounds) / 2)]!;
}
