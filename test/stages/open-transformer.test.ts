// One sampling run, whichever way the transformer is opened: whole, with fed modulation, in groups, with a smaller plan after memory
// ran out. All are the same numbers in another order of work.
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, Model } from "../../src/engine/sessions/engine.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { sampleLatent } from "../../src/sampling/driver.js";
import { evaluatedSigmas } from "../../src/sampling/evaluated.js";
import { SAMPLER_NAMES } from "../../src/sampling/sampling-names.js";
import { type ActiveLora, activeLora, openMatchedLora, parseLora } from "../../src/stages/networks/loras.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import { QeditError } from "../../src/std/errors.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { numbers } from "../graph/run.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { writeEveryKind } from "../support/adapter-file.js";
import { fixture } from "../support/golden.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const SAMPLING = {
  sampler: "euler",
  scheduler: "simple",
  steps: 4,
  denoise: 1,
  shift: 3,
  cfg: 2.5,
  cfgNorm: 1,
  seed: 42n,
};

const folder = await mkdtemp(join(tmpdir(), "qedit-transformer-"));
const direct = await directEngine(CPU);
afterAll(async () => {
  await direct.dispose();
  await rm(folder, { recursive: true, force: true });
});

/** An engine that computes on the CPU what a GPU would be given, and has no room for some models. */
function likeCuda(isTooLarge: (model: Model) => boolean = () => false): Engine & { readonly opened: string[] } {
  const opened: string[] = [];
  return {
    opened,
    device: { provider: "cuda", index: 0, threads: 1 },
    async open(model) {
      opened.push(model.name);
      if (isTooLarge(model))
        throw new QeditError("QEDIT_E_MEMORY", `Cannot open ${model.name} on cuda:0: out of memory`, {
          hint: "Try a smaller picture: megapixels 0.5",
        });
      return direct.open(model);
    },
    dispose: async () => {},
  };
}

interface How {
  readonly engine?: Engine;
  readonly vram?: number;
  readonly modulationFolder?: string;
  readonly lora?: readonly string[];
  readonly transformer?: string;
  /** In place of the file of that name. */
  readonly path?: string;
  readonly sampling?: Partial<typeof SAMPLING>;
  readonly evaluations?: number;
}

async function lorasOf(written: readonly string[], transformer: Checkpoint): Promise<ActiveLora[]> {
  return Promise.all(
    written.map(async (each, index) => {
      const { path, strength } = parseLora(each);
      return activeLora(await openMatchedLora(path, transformer), { index, strength });
    }),
  );
}

async function sampled({
  engine = direct,
  vram,
  modulationFolder,
  lora = [],
  transformer = "transformer",
  path = fixture(`tiny/${transformer}.safetensors`),
  sampling: changed = {},
  evaluations,
}: How): Promise<{ data: Float32Array; events: ProgressEvent[] }> {
  const file = await openModel(path, "transformer");
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const loras = await lorasOf(lora, file.checkpoint);
  const [latent, reference] = [numbers([1, 16, 6, 8], 1), numbers([1, 16, 4, 10], 2)];
  const prompts = {
    positive: { embeds: numbers([1, 7, config.textWidth], 3) },
    negative: { embeds: numbers([1, 5, config.textWidth], 4) },
  };
  const network = qwenImage(config);
  const conditions = { shape: latent.shape, references: [reference], prompts, network };
  const sampling = { ...SAMPLING, ...changed };
  const run = {
    file,
    network,
    compute: "f32",
    loras,
    sigmas: await evaluatedSigmas(sampling),
    conditions,
    evaluations,
  } as const;
  const events: ProgressEvent[] = [];
  const context = {
    engine,
    emit: (event: ProgressEvent) => void events.push(event),
    signal: new AbortController().signal,
    vram,
    modulationFolder,
  };
  const statistics = { mean: new Array<number>(16).fill(0), std: new Array<number>(16).fill(1) };
  const { data } = await withTransformer(run, context, (opened) =>
    sampleLatent(velocityOf(opened, conditions), sampling, { latent, ...statistics }),
  );
  return { data, events };
}

function textsOf(events: readonly ProgressEvent[], kind: "warning" | "detail"): string[] {
  return events.flatMap((event) => (event.kind === kind ? [event.text] : []));
}

/** A budget in which the tiny transformer streams. */
const STREAMING = 60_000;

test.each(["transformer", "transformer-2511", "transformer-bf16"])(
  "%s samples the same whole, with fed modulation, and in groups",
  async (transformer) => {
    const whole = await sampled({ transformer });
    for (const how of [{ engine: likeCuda() }, { vram: STREAMING }, { engine: likeCuda(), vram: 1 }]) {
      expect(scaledError((await sampled({ transformer, ...how })).data, whole.data)).toBeLessThanOrEqual(
        TOLERANCE.network,
      );
    }
  },
);

test.each([
  ["transformer", []],
  ["transformer-scaled-fp8", []],
  ["transformer-bf16", []],
  ["transformer", [fixture("tiny/loras/published.safetensors")]],
])("%s gives the same bits widened when it opens and at every step, with the LoRAs %j", async (transformer, lora) => {
  const opened = async (evaluations: number) => {
    const engine = { ...direct, optimizations: [] as string[] };
    const watching: Engine = {
      ...engine,
      open: (model) => {
        engine.optimizations.push(model.optimization);
        return direct.open(model);
      },
    };
    const { data } = await sampled({ engine: watching, transformer, lora, evaluations });
    return { data, optimizations: engine.optimizations };
  };
  const [few, many] = [await opened(4), await opened(40)];
  expect([few.optimizations, many.optimizations]).toEqual([["none"], ["widened"]]);
  expect(few.data).toEqual(many.data);
});

test("a group that streams is opened once a step for both prompts", async () => {
  const engine = likeCuda();
  await sampled({ engine, vram: 1 });
  expect(engine.opened.filter((name) => name === "the transformer, blocks 0 to 0")).toHaveLength(SAMPLING.steps);
});

test.each(SAMPLER_NAMES)("%s evaluates at the noise levels that were foreseen", async (sampler) => {
  const foreseen = await evaluatedSigmas({ ...SAMPLING, sampler });
  const engine = likeCuda();
  const fed = await sampled({ engine, sampling: { sampler } });
  expect(foreseen.length).toBeGreaterThanOrEqual(SAMPLING.steps - 1);
  // Computed once, before the transformer opens: nothing came up later.
  expect(engine.opened).toEqual(["the modulation of blocks 0 to 1", "the transformer"]);
  expect(scaledError(fed.data, (await sampled({ sampling: { sampler } })).data)).toBeLessThanOrEqual(TOLERANCE.network);
});

test("a run of more steps than are held at a time computes the modulation on its way", async () => {
  const engine = likeCuda();
  const sampling = { steps: 60, cfg: 1 };
  const fed = await sampled({ engine, sampling });
  expect(engine.opened.filter((name) => name.startsWith("the modulation"))).toHaveLength(2);
  expect(scaledError(fed.data, (await sampled({ sampling })).data)).toBeLessThanOrEqual(TOLERANCE.network);
});

/** A LoRA on a linear of the modulation, which Lightning's do not have. */
async function modulationLora(): Promise<string> {
  const path = join(folder, "modulation-lora.safetensors");
  await writeSafetensors(path, {
    "transformer_blocks.0.img_mod.1.lora_up.weight": numbers([144, 2], 5),
    "transformer_blocks.0.img_mod.1.lora_down.weight": numbers([2, 24], 6),
  });
  return path;
}

test("a LoRA on the modulation changes it, and its file, by its strength", async () => {
  const lora = await modulationLora();
  const modulationFolder = join(folder, "by-lora");
  const [none, some, more] = [
    await sampled({}),
    await sampled({ lora: [`${lora}:0.1`] }),
    await sampled({ lora: [`${lora}:0.2`] }),
  ];
  expect(scaledError(some.data, none.data)).toBeGreaterThan(1e-3);
  for (const [written, wanted] of [
    [[], none],
    [[`${lora}:0.1`], some],
    [[`${lora}:0.2`], more],
    [[`${lora}:0.1`], some],
  ] as const) {
    const fed = await sampled({ engine: likeCuda(), lora: written, modulationFolder });
    expect(scaledError(fed.data, wanted.data)).toBeLessThanOrEqual(TOLERANCE.network);
  }
  expect(await readdir(modulationFolder)).toHaveLength(3);
});

test.each(["transformer", "transformer-2511", "transformer-scaled-fp8"])(
  "%s with adapters of every kind samples the same whole, with fed modulation, and in groups",
  async (transformer) => {
    const { checkpoint } = await openModel(fixture(`tiny/${transformer}.safetensors`), "transformer");
    const file = await writeEveryKind(join(folder, `${transformer}-adapter.safetensors`), checkpoint);
    const lora = [`${file}:0.7`, `${fixture("tiny/loras/second.safetensors")}:-0.5`];
    const whole = await sampled({ transformer, lora });
    expect(scaledError(whole.data, (await sampled({ transformer })).data)).toBeGreaterThan(1e-2);
    for (const how of [{ engine: likeCuda() }, { vram: STREAMING }, { engine: likeCuda(), vram: 1 }]) {
      expect(scaledError((await sampled({ transformer, lora, ...how })).data, whole.data)).toBeLessThanOrEqual(
        TOLERANCE.network,
      );
    }
    const none = await sampled({ transformer, lora: [`${file}:0`] });
    expect(scaledError(none.data, (await sampled({ transformer })).data)).toBeLessThanOrEqual(TOLERANCE.network);
  },
);

test("modulation is computed again for a transformer that the identity only samples, when its file was changed", async () => {
  const original = await readSafetensors(fixture("tiny/transformer.safetensors"));
  await writeSafetensors(join(folder, "other-part.safetensors"), { "first_stage_model.weight": numbers([600_000], 7) });
  const { tensors: others } = await readSafetensors(join(folder, "other-part.safetensors"));
  const whole = { ...original, tensors: new Map([...original.tensors, ...others]) };
  const rename = Object.fromEntries(
    [...original.tensors.keys()].map((name) => [name, `model.diffusion_model.${name}`]),
  );
  const path = await rewritten(whole, { folder, file: "whole.safetensors", rename, keepMetadata: true });
  const modulationFolder = join(folder, "by-state");
  const run = async () => {
    const engine = likeCuda();
    await sampled({ engine, modulationFolder, path });
    return engine.opened.includes("the modulation of blocks 0 to 1");
  };
  expect([await run(), await run()]).toEqual([true, false]);
  await utimes(path, 1, 1);
  expect(await run()).toBe(true);
});

test("modulation is taken from its file by the next run, also with a LoRA that leaves it alone, and computed again when the file is damaged", async () => {
  const modulationFolder = join(folder, "kept");
  const first = await sampled({ engine: likeCuda(), modulationFolder });
  const lora = [fixture("tiny/loras/published.safetensors")];
  const second = likeCuda();
  await sampled({ engine: second, modulationFolder, lora });
  expect(second.opened).toEqual(["the transformer"]);
  const [name] = await readdir(modulationFolder);
  const path = join(modulationFolder, name!);
  const whole = await readFile(path);
  const flipped = Buffer.from(whole);
  flipped[flipped.length - 3]! ^= 0x10;
  for (const damaged of [Buffer.alloc(0), whole.subarray(0, whole.length / 2), Buffer.from("junk"), flipped]) {
    await writeFile(path, damaged);
    const again = likeCuda();
    const { data } = await sampled({ engine: again, modulationFolder });
    expect(again.opened).toContain("the modulation of blocks 0 to 1");
    expect(data).toEqual(first.data);
    expect(await readFile(path)).toEqual(whole);
  }
});

test("a folder that cannot be written to is told, and no reason to stop", async () => {
  const { events } = await sampled({ engine: likeCuda(), modulationFolder: "/proc/qedit" });
  expect(textsOf(events, "detail").join()).toMatch(/the modulation is not kept: Cannot write \/proc/);
});

test("out of memory takes the next smaller plan, says so, and samples the same", async () => {
  const engine = likeCuda(({ name }) => name === "the transformer");
  const { data, events } = await sampled({ engine, vram: 2 * 1024 ** 3 });
  expect(textsOf(events, "warning")).toEqual([
    expect.stringMatching(
      /^out of memory with the transformer at .*: trying once more with less\. transformer: .* 0 of 2 layers stay open/,
    ),
  ]);
  expect(scaledError(data, (await sampled({})).data)).toBeLessThanOrEqual(TOLERANCE.network);
});

test("out of memory a second time is the end, with the switch to turn", async () => {
  const engine = likeCuda(({ name }) => name.startsWith("the transformer"));
  const failed = await sampled({ engine, vram: 2 * 1024 ** 3 }).catch((error: unknown) => error);
  expect(failed).toMatchObject({
    code: "QEDIT_E_MEMORY",
    message: expect.stringMatching(/^Cannot open the transformer, blocks .* out of memory$/),
    hint: expect.stringMatching(/megapixels 0\.5/),
  });
  expect(engine.opened.filter((name) => name.startsWith("the transformer"))).toHaveLength(2);
});

test("what is no lack of memory is not tried again", async () => {
  const engine: Engine = {
    ...likeCuda(),
    open: async ({ name }) => Promise.reject(new QeditError("QEDIT_E_ENGINE", `Cannot open ${name}`)),
  };
  await expect(sampled({ engine })).rejects.toMatchObject({ code: "QEDIT_E_ENGINE" });
});
