// A step cache: the numbers are those without it where nothing is reused, whichever way the transformer is opened, and the other blocks are left out where
// their part is.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, KeptTensor, Model, Session } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { sampleLatent, sampleNoise } from "../../src/sampling/driver.js";
import { evaluatedSigmas } from "../../src/sampling/evaluated.js";
import { type ActiveLora, activeLora, openMatchedLora } from "../../src/stages/networks/loras.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { wholeTransformer, withTransformer } from "../../src/stages/networks/open-transformer.js";
import type { EvaluationCounts, StepCacheUse } from "../../src/stages/networks/reused-blocks.js";
import { transformerPlanning } from "../../src/stages/networks/transformer-plan.js";
import { type Conditions, tokenCounts, velocityOf } from "../../src/stages/networks/velocity.js";
import { float32, type Tensor } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { writeEveryKind } from "../support/adapter-file.js";
import { fixture, readGolden } from "../support/golden.js";
import { conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const folder = await mkdtemp(join(tmpdir(), "qedit-step-cache-"));
const direct = await directEngine(CPU);
const paired = pairedEngine(CPU);
afterAll(async () => {
  await direct.dispose();
  await paired.dispose();
  await rm(folder, { recursive: true, force: true });
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

interface Watched extends Engine {
  /** Names of the graphs that were opened, and that ran, in order. */
  readonly opened: string[];
  readonly ran: string[];
  /** Results that are kept in the engine now, and were at a time at most. */
  readonly kept: { now: number; most: number };
}

/** An engine that says what happens in it; `device`: what it claims to be. */
function watched(engine: Engine, device: Engine["device"] = CPU): Watched {
  const [opened, ran]: [string[], string[]] = [[], []];
  const kept = { now: 0, most: 0 };
  const counted = (tensor: KeptTensor): KeptTensor => {
    kept.now += 1;
    kept.most = Math.max(kept.most, kept.now);
    const dispose = tensor.dispose.bind(tensor);
    let isKept = true;
    tensor.dispose = async () => {
      if (isKept) kept.now -= 1;
      isKept = false;
      await dispose();
    };
    return tensor;
  };
  return {
    ...{ opened, ran, kept, device },
    async open(model: Model): Promise<Session> {
      opened.push(model.name);
      const session = await engine.open(model);
      return {
        ...session,
        run(feeds) {
          ran.push(model.name);
          return session.run(feeds);
        },
        async runKept(feeds, names) {
          ran.push(model.name);
          const outputs = await session.runKept!(feeds, names);
          for (const each of Object.values(outputs)) if (!("data" in each)) counted(each);
          return outputs;
        },
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
  readonly loras?: readonly ActiveLora[];
}

function countsOf(used: StepCacheUse | undefined): EvaluationCounts | undefined {
  return used && { whole: used.whole, reused: used.reused };
}

async function sampled({ file, conditions, latent }: Opened, how: How) {
  const { stepCache, engine = direct, vram, loras = [] } = how;
  const sampling = { ...SAMPLING, ...how.sampling };
  const { network } = conditions;
  const run = { ...{ file, network, conditions, stepCache, loras }, compute: "f32" } as const;
  const channels = latent.shape[1]!;
  const scale = { mean: new Array<number>(channels).fill(0), std: new Array<number>(channels).fill(1) };
  const context = { engine, emit: () => {}, signal: new AbortController().signal, vram };
  return withTransformer({ ...run, sigmas: await evaluatedSigmas(sampling) }, context, async (opened) => {
    const { data } = await sampleLatent(velocityOf(opened, conditions), sampling, { latent, ...scale });
    return { data, counts: countsOf(opened.used()) };
  });
}

/** The runs that diffusers made with its FirstBlockCache (fixtures/oracle/step_cache.py), by the file of each. */
const GOLDEN_RUNS = {
  edit: "tiny-model/tiny_edit_fp8_e4m3fn",
  "edit-two": "tiny-model/tiny_edit_fp8_e4m3fn",
  fp32: "tiny/transformer-fp32",
  bf16: "tiny/transformer-bf16",
  "2511": "tiny/transformer-2511",
};

/** Rounding of float32 in twenty steps, beside the largest number. */
const SAME_RUN = 1e-4;

test.each(Object.entries(GOLDEN_RUNS))(
  "the run %s reuses what diffusers' FirstBlockCache reuses, with its latent",
  async (name, path) => {
    const golden = await readGolden("step-cache");
    const named = (prefix: string) =>
      golden.names
        .filter((each) => each.startsWith(`${name}.${prefix}_`))
        .sort()
        .map((each) => golden.get(each));
    const file = await openModel(fixture(`${path}.safetensors`), "transformer");
    const network = qwenImage(transformerConfig(numbersOf(file.checkpoint), file.config));
    const noise = golden.get(`${name}.noise`);
    const [positive, negative] = named("prompt").map((embeds) => ({ embeds }));
    const prompts = { positive: positive!, negative };
    const conditions: Conditions = { shape: noise.shape, references: named("reference"), prompts, network };
    const { data: sigmas } = golden.get("sigmas");
    const [stepCache] = golden.get(`${name}.threshold`).data;
    const run = {
      ...{ file, network, conditions, stepCache, loras: [] },
      compute: "f32",
      sigmas: [...sigmas],
    } as const;
    const context = { engine: direct, emit: () => {}, signal: new AbortController().signal };
    const computed = { positive: [] as number[], negative: [] as number[] };
    const sampled = await withTransformer(run, context, (opened) => {
      const velocity = velocityOf(opened, conditions);
      const counted: typeof velocity = async (x, sigma, which) => {
        const { whole } = opened.used()!;
        const found = await velocity(x, sigma, which);
        computed[which].push(opened.used()!.whole - whole);
        return found;
      };
      const cfg = negative ? Number(golden.metadata["guidance"]) : 1;
      const scale = { mean: new Array<number>(16).fill(0), std: new Array<number>(16).fill(1) };
      return sampleNoise(counted, { noise, sigmas: Float32Array.from(sigmas), cfg }, scale);
    });
    expect([...computed.positive, ...computed.negative]).toEqual([...golden.get(`${name}.computed`).data]);
    expect(scaledError(sampled.data, golden.get(`${name}.latent`).data)).toBeLessThanOrEqual(SAME_RUN);
  },
);

/** A budget in which the tiny transformers stream. */
const STREAMING = 1;
const HUGE = 1e9;
const CUDA = { provider: "cuda", index: 0, threads: 1 } as const;

test.each(Object.entries(MODELS))("a threshold of 0 gives the bits of %s without a step cache", async (_, open) => {
  const model = await open();
  for (const how of [
    { engine: direct },
    { engine: paired },
    // Without optimization, and with the modulation fed.
    { engine: watched(direct, CUDA) },
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
  const { counts, data } = await sampled(model, { engine, stepCache: HUGE });
  expect(counts).toEqual({ whole: PROMPTS, reused: PROMPTS * (SAMPLING.steps - 1) });
  const count = (name: string) => engine.ran.filter((each) => each === name).length;
  expect(count("the transformer, blocks 0 to 0")).toBe(PROMPTS * SAMPLING.steps);
  expect(count(`the transformer, blocks 1 to ${model.conditions.network.blocks - 1}`)).toBe(PROMPTS);
  for (const how of [{ engine: paired }, { engine: watched(direct, CUDA) }, { vram: STREAMING }]) {
    const other = await sampled(model, { ...how, stepCache: HUGE });
    expect(other.counts).toEqual(counts);
    expect(scaledError(other.data, data)).toBeLessThanOrEqual(TOLERANCE.network);
  }
});

test.each(Object.entries(MODELS))(
  "the same evaluation again is reused, with the velocity that it had, by %s",
  async (_, open) => {
    const { file, conditions, latent } = await open();
    const run = {
      ...{ file, network: conditions.network, conditions, sigmas: [0.7, 0.4], loras: [] },
      compute: "f32",
    } as const;
    const context = { engine: direct, emit: () => {}, signal: new AbortController().signal };
    await withTransformer({ ...run, stepCache: 1e-6 }, context, async (opened) => {
      const velocity = velocityOf(opened, conditions);
      for (const sigma of [0.7, 0.4]) {
        const first = await velocity(latent.data, sigma, "positive");
        // Of its own: that of the other prompt is no evaluation to compare with.
        const other = await velocity(latent.data, sigma, "negative");
        const before = opened.used()!;
        expect(scaledError(await velocity(latent.data, sigma, "positive"), first)).toBeLessThanOrEqual(
          TOLERANCE.network,
        );
        expect(scaledError(await velocity(latent.data, sigma, "negative"), other)).toBeLessThanOrEqual(
          TOLERANCE.network,
        );
        expect(opened.used()).toMatchObject({ whole: before.whole, reused: before.reused + PROMPTS });
      }
      expect(opened.used()).toMatchObject({ whole: 2 * PROMPTS, reused: 2 * PROMPTS });
    });
  },
);

test("blocks that stream are not read for evaluations that are reused", async () => {
  const model = await qwenImageOf("transformer-bf16");
  const engine = watched(direct);
  await sampled(model, { engine, vram: STREAMING, stepCache: HUGE });
  const streamed = engine.opened.filter((name) => /blocks [12] to/.test(name));
  expect(streamed).toEqual(["the transformer, blocks 1 to 1", "the transformer, blocks 2 to 2"]);
  expect(engine.opened.filter((name) => name === "the transformer, blocks 0 to 0")).toHaveLength(1);
});

test("adapters of every kind do to both parts what they do to the whole", async () => {
  const model = await qwenImageOf("transformer-2511");
  const { checkpoint } = model.file;
  const path = await writeEveryKind(join(folder, "adapter.safetensors"), checkpoint);
  const loras = [activeLora(await openMatchedLora(path, checkpoint), { index: 0, strength: 0.7 })];
  for (const how of [{ loras }, { loras, engine: watched(direct, CUDA) }]) {
    const without = await sampled(model, how);
    expect((await sampled(model, { ...how, stepCache: 0 })).data).toEqual(without.data);
    expect((await sampled(model, { ...how, stepCache: HUGE })).counts).toMatchObject({ whole: PROMPTS });
  }
});

test("a sampler that evaluates twice a step compares each evaluation with the last one that was computed whole", async () => {
  const model = await qwenImageOf("transformer");
  const how = { stepCache: 0.9, sampling: { sampler: "heun" } };
  const { counts } = await sampled(model, how);
  expect(counts!.whole + counts!.reused).toBe(PROMPTS * (2 * SAMPLING.steps - 1));
  expect(counts!.reused).toBeGreaterThan(0);
  expect((await sampled(model, how)).counts).toEqual(counts);
});

test("what is kept is freed when it is not needed any more, and after an error", async () => {
  const model = await qwenImageOf("transformer-2511");
  for (const stepCache of [0, 0.8, HUGE]) {
    const engine = watched(direct);
    await sampled(model, { engine, stepCache });
    expect(engine.kept.now).toBe(0);
    // Two of each prompt, and text and image tokens on their way from the first block to the others.
    expect(engine.kept.most).toBeLessThanOrEqual(2 * PROMPTS + 2);
  }
  const engine = watched(direct);
  const run = sampled(model, { engine: failing(engine, 7), stepCache: 0.8 });
  await expect(run).rejects.toThrow("it broke");
  expect(engine.kept.now).toBe(0);
});

/** The engine, whose run of this number fails. */
function failing(engine: Watched, number: number): Engine {
  return {
    ...engine,
    async open(model) {
      const session = await engine.open(model);
      return {
        ...session,
        async runKept(feeds, names) {
          if (engine.ran.length === number) throw new Error("it broke");
          return session.runKept!(feeds, names);
        },
      };
    },
  };
}

test("what opens ahead of a run is the graph of the blocks after the first", async () => {
  for (const open of [MODELS.transformer, MODELS["Qwen-Image-2.1"]]) {
    const model = await open();
    const { file, conditions } = model;
    const engine = watched(direct, CUDA);
    const models: Model[] = [];
    const collecting: Engine = { ...engine, open: (each) => (models.push(each), engine.open(each)) };
    const context = { engine: collecting, emit: () => {}, signal: new AbortController().signal, vram: 8 * 1024 ** 3 };
    const run = { ...{ file, network: conditions.network, loras: [] }, compute: "f32", stepCache: 0.1 } as const;
    const ahead = await wholeTransformer({ ...run, tokens: tokenCounts(conditions), hasNegative: true }, context);
    expect(ahead.name).toMatch(/blocks 1 to \d+$/);
    await sampled(model, { engine: collecting, vram: context.vram, stepCache: 0.1 });
    expect(models.filter(({ bytes }) => Buffer.from(bytes).equals(ahead.bytes))).toHaveLength(1);
  }
});

test("the plan counts the first block's session, and what is kept of each prompt", async () => {
  const { file, conditions } = await qwenImageOf("transformer-bf16");
  const { network } = conditions;
  const run = { ...{ file, network, tokens: tokenCounts(conditions), loras: [] }, compute: "f32" } as const;
  const planning = (more: object) => transformerPlanning({ ...run, ...more }, CPU);
  const [without, one, two] = [{}, { stepCache: 0.1 }, { stepCache: 0.1, hasNegative: true }].map((more) =>
    planning(more).planFor(undefined),
  );
  const [target, references] = [12, 10];
  const kept = (2 * target + references) * network.width * 4;
  expect(without!.stepCacheBytes).toBeUndefined();
  expect([one!.stepCacheBytes, two!.stepCacheBytes]).toEqual([kept, 2 * kept]);
  expect(two!.peak).toBe(one!.peak + kept);
  expect(one!.groups.map(({ from, to }) => [from, to])).toEqual([
    [0, 1],
    [1, 3],
  ]);
  expect(one!.weights).toBe(without!.weights);
  expect(planning({ stepCache: 0.1 }).describe(one!)).toMatch(/3 layers|all open.*; the step cache keeps \d+ KiB$/);

  const { peak } = one!;
  const less = planning({ stepCache: 0.1 }).planFor(peak - 1);
  expect(less.groups[0]).toMatchObject({ from: 0, to: 1, isResident: true });
  expect(less.groups.flatMap(({ from, to }) => [...Array(to - from).keys()].map((each) => from + each))).toEqual([
    0, 1, 2,
  ]);
  expect(less.groups.some(({ isResident }) => !isResident)).toBe(true);
  expect(less.peak).toBeLessThan(peak);
});
