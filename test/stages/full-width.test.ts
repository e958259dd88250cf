// A few layers of the published widths with random weights: whole, and streamed, the transformer with fed modulation.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { randomCheckpoint } from "../../bench/random-checkpoint.js";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { languageConfig, visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import type { Chain } from "../../src/stages/networks/block-groups.js";
import { pictureFeeds } from "../../src/stages/networks/embed-prompt.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withLanguageModel } from "../../src/stages/networks/open-language-model.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { withVisionTower } from "../../src/stages/networks/open-vision-tower.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import type { StageContext } from "../../src/stages/stage.js";
import type { ProgressEvent } from "../../src/std/events.js";
import type { Tensors } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";

/** float32 sums in another order, over rows of up to 12288. */
const SAME = 1e-5;
const BLOCKS = 2;

const folder = await mkdtemp(join(tmpdir(), "qedit-width-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a transformer of the published widths gives the same velocity whole and streamed", {
  timeout: 300_000,
}, async () => {
  const path = join(folder, "transformer.safetensors");
  const tensors = publishedTensors("qwen_image_edit_2509_fp8_e4m3fn");
  await randomCheckpoint(
    path,
    tensors.filter(({ name }) => Number(/^transformer_blocks\.(\d+)\./.exec(name)?.[1] ?? 0) < BLOCKS),
  );
  const file = await openModel(path, "transformer");
  const config = transformerConfig(numbersOf(file.checkpoint), file.config);
  const latent = numbers([1, 16, 8, 12], 1);
  const conditions = {
    shape: latent.shape,
    references: [numbers([1, 16, 6, 6], 2)],
    prompts: { positive: { embeds: numbers([1, 9, config.textWidth], 3) }, negative: undefined },
    network: qwenImage(config),
  };
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
  const plans: string[] = [];
  const emit = (event: ProgressEvent) => void (event.kind === "plan" && plans.push(...event.lines));
  const { network } = conditions;
  const run = { file, network, compute: "f32", loras: [], sigmas: [0.75], conditions } as const;
  const velocityWith = (vram: number | undefined) =>
    withTransformer(run, { engine, emit, signal: new AbortController().signal, vram }, (opened) =>
      velocityOf(opened, conditions)(latent.data, 0.75, "positive"),
    );
  const [whole, streamed] = [await velocityWith(undefined), await velocityWith(400e6)];
  await engine.dispose();
  expect(plans).toEqual([
    expect.stringMatching(/^transformer: 3\d\d MiB of weights, 0 of 2 layers stay open, the others 1 at a time/),
  ]);
  expect(scaledError(streamed, whole)).toBeLessThanOrEqual(SAME);
});

/** Layers of the language model and of the vision tower. */
const LAYERS = 3;

async function textEncoder() {
  const path = join(folder, "text-encoder.safetensors");
  const isFew = (name: string) => Number(/^(?:model\.layers|visual\.blocks)\.(\d+)\./.exec(name)?.[1] ?? 0) < LAYERS;
  await randomCheckpoint(
    path,
    publishedTensors("qwen_2.5_vl_7b_fp8_scaled").filter(
      ({ name }) => isFew(name) && !/^lm_head|embed_tokens/.test(name),
    ),
  );
  return openModel(path, "textEncoder");
}

/** What a network gives whole, and in groups within a budget; and how it told that it would do the second. */
async function wholeAndStreamed(
  vram: number,
  use: (context: StageContext) => Promise<Tensors[]>,
): Promise<{ whole: Tensors; streamed: Tensors; plan: string }> {
  const engine = pairedEngine({ provider: "cpu", index: 0, threads: 0 });
  const plans: string[] = [];
  const context = {
    engine,
    emit: (event: ProgressEvent) => void (event.kind === "plan" && plans.push(...event.lines)),
    signal: new AbortController().signal,
  };
  const [[whole], [streamed]] = [await use(context), await use({ ...context, vram })];
  await engine.dispose();
  return { whole: whole!, streamed: streamed!, plan: plans.join() };
}

test("the text encoder's networks of the published widths give the same whole and streamed, the next group opening meanwhile", {
  timeout: 300_000,
}, async () => {
  const file = await textEncoder();
  const numbersIn = numbersOf(file.checkpoint);
  const [language, vision] = [languageConfig(numbersIn, {}), visionConfig(numbersIn, {})];

  const tokens = 11;
  const feeds = {
    inputs_embeds: numbers([1, tokens, language.width], 1),
    rope_cos: numbers([1, tokens, language.headDim / 2], 2),
    rope_sin: numbers([1, tokens, language.headDim / 2], 3),
  };
  const read = await wholeAndStreamed(1000e6, (context) =>
    withLanguageModel({ file, config: language, compute: "f32", tokens }, context, (model: Chain) =>
      model.run([feeds]),
    ),
  );
  expect(read.plan).toMatch(/^language model: .* 0 of 3 layers stay open, the others 1 at a time while the next open;/);
  expect(
    scaledError(
      read.streamed["hidden_states"]!.data as Float32Array,
      read.whole["hidden_states"]!.data as Float32Array,
    ),
  ).toBeLessThanOrEqual(SAME);

  const grid = [1, 8, 12] as const;
  const values = vision.channels * vision.temporalPatchSize * vision.patchSize ** 2;
  const patches = pictureFeeds({ pixelValues: numbers([96, values], 4), grid }, vision);
  const seen = await wholeAndStreamed(1, (context) =>
    withVisionTower({ file, config: vision, compute: "f32", tokens: 24 }, context, (tower: Chain) =>
      tower.run([patches]),
    ),
  );
  expect(seen.plan).toMatch(/^vision tower: .* 0 of 3 layers stay open, the others 1 at a time;/);
  expect(
    scaledError(seen.streamed["image_embeds"]!.data as Float32Array, seen.whole["image_embeds"]!.data as Float32Array),
  ).toBeLessThanOrEqual(SAME);
});
