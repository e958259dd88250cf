// A step cache: the numbers are those without it where nothing is reused, whichever way the transformer is opened, and the other blocks are left out where
// their part is.
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, Model, Session } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { sampleLatent } from "../../src/sampling/driver.js";
import { evaluatedSigmas } from "../../src/sampling/evaluated.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { type Conditions, velocityOf } from "../../src/stages/networks/velocity.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { fixture } from "../support/golden.js";
import { conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const direct = await directEngine(CPU);
const paired = pairedEngine(CPU);
afterAll(async () => {
  await direct.dispose();
  await paired.dispose();
});

const SAMPLING = {
  sampler: "euler",
  scheduler: "simple",
  steps: 12,
  denoise: 1,
  shift: 3,
  cfg: 2.5,
  cfgNorm: 1,
  seed: 42n,
};
const PROMPTS = 2;

interface Opened {
  readonly conditions: Conditions;
  readonly file: Awaited<ReturnType<typeof openModel>>;
  readonly latent: Tensor<"float32">;
}

async function qwenImageOf(name: string): Promise<Opened> {
  const file = await openModel(fixture(`tiny/${name}.safetensors`), "transformer");
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const latent = numbers([1, 16, 6, 8], 1);
  const prompts = {
    positive: { embeds: numbers([1, 7, config.textWidth], 3) },
    negative: { embeds: numbers([1, 5, config.textWidth], 4) },
  };
  const references = [numbers([1, 16, 4, 10], 2)];
  return { file, latent, conditions: { shape: latent.shape, references, prompts, network: qwenImage(config) } };
}

async function qwenImage2(): Promise<Opened> {
  const model = await tinyTransformer("transformer");
  const own = conditionsOf(model, "refs2");
  const negative = { embeds: numbers([1, 6, own.network.textWidth], 5), imagePositions: [1, 4] };
  const latent = float32(own.shape, Float32Array.from(model.golden.get("refs2.latent").data as Float32Array));
  return { file: model.file, latent, conditions: { ...own, prompts: { ...own.prompts, negative } } };
}

const MODELS = {
  transformer: () => qwenImageOf("transformer"),
  "transformer-2511": () => qwenImageOf("transformer-2511"),
  "transformer-bf16": () => qwenImageOf("transformer-bf16"),
  "Qwen-Image-2.1": qwenImage2,
};

/** An engine that computes on the CPU what a GPU would be given, and says what runs. */
function watched(engine: Engine, device: Engine["device"] = CPU): Engine & { readonly ran: string[] } {
  const ran: string[] = [];
  return {
    ran,
    device,
    async open(model: Model): Promise<Session> {
      const session = await engine.open(model);
      return {
        ...session,
        run: (feeds) => (ran.push(model.name), session.run(feeds)),
        runKept: (feeds, names) => (ran.push(model.name), session.runKept!(feeds, names)),
      };
    },
    dispose: async () => {},
  };
}

interface How {
  readonly stepCache?: number | undefined;
  readonly engine?: Engine;
  readonly vram?: number;
  readonly sampling?: Partial<typeof SAMPLING>;
}

async function sampled({ file, conditions, latent }: Opened, how: How) {
  const { stepCache, engine = direct, vram } = how;
  const sampling = { ...SAMPLING, ...how.sampling };
  const { network } = conditions;
  const run = { ...{ file, network, conditions, stepCache }, compute: "f32", loras: [] } as const;
  const channels = latent.shape[1]!;
  const scale = { mean: new Array<number>(channels).fill(0), std: new Array<number>(channels).fill(1) };
  const context = { engine, emit: () => {}, signal: new AbortController().signal, vram };
  return withTransformer({ ...run, sigmas: await evaluatedSigmas(sampling) }, context, async (opened) => {
    const { data } = await sampleLatent(velocityOf(opened, conditions), sampling, { latent, ...scale });
    return { data, counts: opened.counts() };
  });
}

/** A budget in which the tiny transformers stream. */
const STREAMING = 1;
const HUGE = 1e9;

test.each(Object.entries(MODELS))("a threshold of 0 gives the bits of %s without a step cache", async (_, open) => {
  const model = await open();
  const cuda = { provider: "cuda", index: 0, threads: 1 } as const;
  for (const how of [
    { engine: direct },
    { engine: paired },
    { engine: watched(direct, cuda) },
    { engine: direct, vram: STREAMING },
    { engine: paired, vram: STREAMING },
  ]) {
    const without = await sampled(model, how);
    const { data, counts } = await sampled(model, { ...how, stepCache: 0 });
    expect(without.counts).toBeUndefined();
    expect(counts).toEqual({ whole: PROMPTS * SAMPLING.steps, reused: 0 });
    expect(data).toEqual(without.data);
  }
});

test.each(Object.entries(MODELS))("a huge threshold runs all of %s once for each prompt", async (_, open) => {
  const model = await open();
  const engine = watched(direct);
  const { counts } = await sampled(model, { engine, stepCache: HUGE });
  expect(counts).toEqual({ whole: PROMPTS, reused: PROMPTS * (SAMPLING.steps - 1) });
  const count = (name: string) => engine.ran.filter((each) => each === name).length;
  expect(count("the transformer, blocks 0 to 0")).toBe(PROMPTS * SAMPLING.steps);
  expect(count(`the transformer, blocks 1 to ${model.conditions.network.blocks - 1}`)).toBe(PROMPTS);
});
