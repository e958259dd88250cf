// Memory plans as arithmetic, and at the published sizes what cards of usual sizes get.
import { expect, test } from "vitest";
import type { ModuleAdapter } from "../../src/checkpoint/lora/module-adapter.js";
import type { Adapter } from "../../src/checkpoint/weights.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { languageConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import {
  describeNetworkPlan,
  type NetworkNeeds,
  type NetworkPlan,
  planNetwork,
  smallerPlan,
} from "../../src/stages/networks/memory-plan.js";
import { numbersOf } from "../../src/stages/networks/model-handle.js";
import { languageNeeds } from "../../src/stages/networks/open-language-model.js";
import { vaeNeeds } from "../../src/stages/networks/open-vae.js";
import { planTiles } from "../../src/stages/networks/tiles.js";
import { transformerNeeds } from "../../src/stages/networks/transformer-plan.js";
import { everyKind, published } from "../support/full-size.js";

const GIB = 1024 ** 3;
const CUDA = { provider: "cuda", index: 0, threads: 0 } as const;

const TEN: NetworkNeeds = { network: "transformer", layers: new Array<number>(10).fill(100), activations: 50 };

/** Groups cover every layer once, in order. */
function expectWhole({ groups }: NetworkPlan, layers: number): void {
  expect(groups.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, index) => from + index))).toEqual(
    Array.from({ length: layers }, (_, index) => index),
  );
}

test("a network that fits, or has no limit, is open whole", () => {
  for (const budget of [undefined, 1050, 5000]) {
    expect(planNetwork(TEN, budget)).toMatchObject({
      groups: [{ from: 0, to: 10, bytes: 1000, isResident: true }],
      peak: 1050,
      isOverBudget: false,
    });
  }
});

test("what does not fit streams beside as many layers as can stay", () => {
  const plan = planNetwork(TEN, 1049);
  expectWhole(plan, 10);
  expect(plan.groups.map(({ from, to, isResident }) => [from, to, isResident])).toEqual([
    [0, 5, true],
    [5, 7, false],
    [7, 9, false],
    [9, 10, false],
  ]);
  // Two layers compute while two open; the session that stays keeps what its runs took.
  expect(plan).toMatchObject({ opensAhead: true, peak: 500 + 200 + 200 + 2 * 50 });
});

test("the group that computes and the one that opens are both in the plan, where there is room for both", () => {
  const room = planNetwork(TEN, 250);
  expect(room).toMatchObject({ opensAhead: true, peak: 100 + 100 + 50, isOverBudget: false });
  expect(planNetwork(TEN, 249)).toMatchObject({ opensAhead: false, peak: 100 + 50 });
  expect(describeNetworkPlan(room)).toBe(
    "transformer: 1 KiB of weights, 0 of 10 layers stay open, the others 1 at a time while the next open; 1 KiB at most",
  );
});

test("a plan never takes more than its budget while the smallest groups fit in it", () => {
  for (let budget = 250; budget <= 1200; budget += 10) {
    const plan = planNetwork(TEN, budget);
    expectWhole(plan, 10);
    expect(plan.peak).toBeLessThanOrEqual(budget);
    expect(plan.isOverBudget).toBe(false);
  }
  const tight = planNetwork(TEN, 100);
  expectWhole(tight, 10);
  expect(tight).toMatchObject({ peak: 150, isOverBudget: true });
});

test("layers of unlike sizes are weighed, not counted", () => {
  const plan = planNetwork({ network: "transformer", layers: [10, 500, 10, 10, 300], activations: 0 }, 600);
  expectWhole(plan, 5);
  expect(plan.peak).toBeLessThanOrEqual(600);
});

test("the next smaller plan takes less, down to where there is none", () => {
  const planFor = (budget: number) => planNetwork(TEN, budget);
  let plan: NetworkPlan | undefined = planNetwork(TEN, undefined);
  const peaks = [];
  for (; plan !== undefined; plan = smallerPlan(plan, planFor)) peaks.push(plan.peak);
  expect(peaks).toEqual([...peaks].sort((a, b) => b - a));
  expect(peaks.at(-1)).toBe(150);
  expect(peaks.length).toBeGreaterThan(3);
});

function transformer(adapter?: Adapter) {
  const checkpoint = published("qwen_image_edit_2509_fp8_e4m3fn");
  const file = { checkpoint, config: {}, identity: "", name: "" };
  const config = transformerConfig(numbersOf(checkpoint), {});
  return transformerNeeds(
    {
      file,
      network: qwenImage(config),
      compute: "bf16",
      loras: adapter ? [{ adapter }] : [],
      tokens: { text: 250, target: 4096, references: [4096] },
    },
    CUDA,
  );
}

test("the published transformer without its modulation is resident in 24 GiB, and streams in less", () => {
  const needs = transformer();
  const weights = needs.layers.reduce((sum, bytes) => sum + bytes, 0);
  // 13.59 B parameters in attention and feed-forward, one byte each, less the text's side of the last block, and what is small.
  expect(weights / 1e9).toBeGreaterThan(13.4);
  expect(weights / 1e9).toBeLessThan(13.7);
  expect(planNetwork(needs, 23 * GIB).groups).toHaveLength(1);
  for (const gibibytes of [12, 8, 6]) {
    const plan = planNetwork(needs, gibibytes * GIB);
    expectWhole(plan, 60);
    expect(plan.isOverBudget).toBe(false);
    expect(plan.groups.length).toBeGreaterThan(1);
  }
});

test("a run of the published transformer at 1024² takes what its widest layers hold, with the margin of the arena", () => {
  const { activations } = transformer();
  // 8192 image tokens × 12288 in bfloat16, before and after the GELU where it is not in place, beside both streams and a widened weight;
  // 1.2 GB are live, and the last region of the arena may be 1 GiB longer than what is used of it.
  expect(activations).toBeGreaterThan(2 * 8192 * 12288 * 2);
  expect(activations).toBeLessThan(2.6e9);
});

test("a plan counts what an adapter's matrices take in a run, whichever block they are in", () => {
  const everywhere = everyKind(published("qwen_image_edit_2509_fp8_e4m3fn"));
  const place = "img_mlp.net.2";
  const dora = { kind: "lora", parts: partsOf("lora", place), scale: 1 } as const;
  const one = { name: everywhere.name, modules: new Map([[`transformer_blocks.31.${place}`, dora]]) };
  const without = transformer().activations;
  // W, Δ and their sum in float32, while x and what the other stream left are in memory.
  expect(transformer(one).activations).toBeGreaterThan(without + 3072 * 12288 * 4);
  expect(transformer(everywhere).activations).toBeGreaterThan(transformer(one).activations - 1);

  function partsOf(kind: string, of: string): ModuleAdapter["parts"] {
    const found = [...everywhere.modules].find(
      ([module, own]) => own.kind === kind && own.parts.magnitude !== undefined && module.endsWith(of),
    );
    return found![1].parts;
  }
});

test("the published text encoder is resident in 12 GiB and streams in 6", () => {
  const checkpoint = published("qwen_2.5_vl_7b_fp8_scaled");
  const file = { checkpoint, config: {}, identity: "", name: "" };
  const needs = languageNeeds(
    { file, config: languageConfig(numbersOf(checkpoint), {}), compute: "f32", tokens: 515 },
    CUDA,
  );
  expect(planNetwork(needs, 12 * GIB).groups).toHaveLength(1);
  const plan = planNetwork(needs, 6 * GIB);
  expectWhole(plan, 28);
  expect(plan).toMatchObject({ isOverBudget: false });
});

test("the published VAE decodes 1024² whole in 8 GiB, and 4096² on tiles", () => {
  const file = { checkpoint: published("qwen_image_vae"), config: {}, identity: "", name: "" };
  const at = (side: number) => vaeNeeds("decoder", { run: { file, compute: "f32" }, pixels: [side, side] }, CUDA);
  expect(planTiles(at(1024), 8 * GIB).tile).toBeUndefined();
  const large = planTiles(at(4096), 8 * GIB);
  expect(large.tile).toBeGreaterThanOrEqual(16);
  expect(large.isOverBudget).toBe(false);
});
