// Keys and values of text and references that are computed once for a schedule: the velocities are those of the graph that computes all of it at every step.
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, Model } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { transformerPlanning } from "../../src/stages/networks/transformer-plan.js";
import { type Conditions, fixedFeeds, tokenCounts, velocityOf } from "../../src/stages/networks/velocity.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { float32 } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { scaledError } from "../parity/table.js";
import { openNetwork } from "../support/graphs.js";
import { conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const direct = await directEngine(CPU);
const paired = pairedEngine(CPU);
afterAll(async () => {
  await direct.dispose();
  await paired.dispose();
});

/** float32 sums in another order, beside the largest number. */
const SAME = 1e-5;
const SIGMAS = [1, 0.75, 0.3];
const WHICH = ["positive", "negative"] as const;

const model = await tinyTransformer("transformer");
const own = conditionsOf(model, "refs2");
const negative = { embeds: numbers([1, 6, own.network.textWidth], 5), imagePositions: [1, 4] };
const conditions: Conditions = { ...own, prompts: { ...own.prompts, negative } };
const latent = model.golden.get("refs2.latent").data;
const run = { file: model.file, network: own.network, compute: "f32", loras: [], sigmas: SIGMAS, conditions } as const;
const planning = transformerPlanning({ ...run, tokens: tokenCounts(conditions), hasNegative: true }, CPU);

/** By one graph of everything. */
async function wholeVelocities(): Promise<Float32Array[]> {
  await using network = await openNetwork(model.file.checkpoint, {
    build: (graph, w) => own.network.build(graph, w, { compute: "f32", part: "whole", references: 2 }),
    optimization: "none",
  });
  const fixed = fixedFeeds(conditions);
  const results: Float32Array[] = [];
  for (const sigma of SIGMAS)
    for (const which of WHICH) {
      const target = own.network.targetFeeds(float32(own.shape, latent));
      const { velocity } = await network.session.run({
        ...{ ...fixed[which], ...target },
        timestep: float32([1], Float32Array.of(sigma)),
      });
      results.push(own.network.latentOf(velocity as never, own.shape).data);
    }
  return results;
}

async function velocities(engine: Engine, vram?: number) {
  const [opened, plans]: [string[], string[]] = [[], []];
  const watched: Engine = {
    ...engine,
    device: engine.device,
    open: (each: Model) => {
      opened.push(each.name);
      return engine.open(each);
    },
  };
  const emit = (event: ProgressEvent) => void (event.kind === "plan" && plans.push(...event.lines));
  const context = { engine: watched, emit, signal: new AbortController().signal, vram };
  const data = await withTransformer(run, context, async (transformer) => {
    const velocity = velocityOf(transformer, conditions);
    const results: Float32Array[] = [];
    for (const sigma of SIGMAS) for (const which of WHICH) results.push(await velocity(latent, sigma, which));
    return results;
  });
  return { data, opened, plans };
}

function expectSame(found: readonly Float32Array[], wanted: readonly Float32Array[]): void {
  expect(found).toHaveLength(wanted.length);
  found.forEach((each, index) => expect(scaledError(each, wanted[index]!)).toBeLessThanOrEqual(SAME));
}

const wanted = await wholeVelocities();
const PREFIX = "the transformer's text and references";

test("text and references are computed once for both prompts, and the velocities are those of one graph", async () => {
  const { data, opened } = await velocities(direct);
  expect(opened).toEqual([PREFIX, "the transformer"]);
  expectSame(data, wanted);
});

test("tensors stay in another thread with the same numbers", async () => {
  const [here, there] = [await velocities(direct), await velocities(paired)];
  expect(there.data).toEqual(here.data);
});

test("blocks that stream take the keys and values of their own", async () => {
  const { weights } = planning.planFor(undefined);
  let budget = weights * 100;
  while (planning.planFor(budget).groups.length < 3) budget *= 0.97;
  expect(planning.planFor(budget)).toMatchObject({ keptBytes: expect.any(Number), isOverBudget: false });
  for (const engine of [direct, paired]) {
    const { data, opened, plans } = await velocities(engine, budget);
    expect(opened.filter((name) => name.startsWith(PREFIX)).length).toBe(3);
    expect(plans.join()).toMatch(/of keys and values are computed once$/);
    expectSame(data, wanted);
  }
});

test("where keys and values leave no room for the weights, they are computed at every step", async () => {
  const counts = { text: 2000, target: 4, references: [2000, 2000] };
  const long = transformerPlanning({ ...run, tokens: counts, hasNegative: true }, CPU);
  const least = long.planFor(undefined);
  const whole = [...Array(400).keys()].map((step) => long.planFor(least.peak * (1 - step / 400)));
  const without = whole.find(({ keptBytes, isOverBudget }) => keptBytes === undefined && !isOverBudget);
  expect(without?.groups).toHaveLength(1);
});

test("the plan counts what is kept", () => {
  const bytes = 2 * (own.prompts.positive.embeds.shape[1]! + 12 + 12) * 2 * own.network.width * own.network.blocks * 4;
  expect(planning.planFor(undefined).keptBytes).toBe(bytes);
});
