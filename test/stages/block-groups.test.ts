// Groups of blocks that stream: the next one opens while one computes, both are in the plan, and nothing stays open.
import { afterAll, expect, test } from "vitest";
import { weightBytes } from "../../src/edit/plan/graph-cost.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, Model } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import type { Graph } from "../../src/graph/graph.js";
import { qwenImage } from "../../src/models/qwen-image/family.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { planNetwork } from "../../src/stages/networks/memory-plan.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { transformerNeeds } from "../../src/stages/networks/transformer-plan.js";
import { tokenCounts, velocityOf } from "../../src/stages/networks/velocity.js";
import { QeditError } from "../../src/std/errors.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { numbers } from "../graph/run.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { fixture } from "../support/golden.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;
const direct = await directEngine(CPU);
const paired = pairedEngine(CPU);
afterAll(async () => {
  await direct.dispose();
  await paired.dispose();
});

const file = await openModel(fixture("tiny/transformer-bf16.safetensors"), "transformer");
const config = transformerConfig(numbersOf(file.checkpoint), file.config);
const conditions = {
  shape: [1, 16, 6, 8],
  references: [numbers([1, 16, 4, 10], 2)],
  prompts: {
    positive: { embeds: numbers([1, 7, config.textWidth], 3) },
    negative: { embeds: numbers([1, 5, config.textWidth], 4) },
  },
  network: qwenImage(config),
};
const SIGMAS = [1, 0.75, 0.5];
const run = {
  file,
  network: conditions.network,
  compute: "f32",
  loras: [],
  sigmas: SIGMAS,
  tokens: tokenCounts(conditions),
  conditions,
} as const;
const needs = transformerNeeds(run, CPU);

/** A budget in which no group stays, and two of the three are in memory at a time. */
const BOTH = needs.layers.reduce((sum, bytes) => sum + bytes, 0) + needs.activations - 1;

interface Watched extends Engine {
  /** Opening, opened, running, ran and closed, in the order in which they came. */
  readonly told: string[];
  /** Most bytes of weights of the transformer's sessions that were open, or opening, at a time. */
  readonly most: () => number;
}

/** The engine, with what happens in it; some models fail to open while another one is open. */
function watched(engine: Engine, fails: (model: Model, open: number) => boolean = () => false): Watched {
  const told: string[] = [];
  const held = new Set<Model>();
  let most = 0;
  return {
    told,
    most: () => most,
    device: CPU,
    async open(model) {
      const name = /blocks (\d+)/.exec(model.name)?.[1] ?? model.name;
      if (!model.name.startsWith("the transformer")) return engine.open(model);
      told.push(`opening ${name}`);
      if (fails(model, held.size)) throw new QeditError("QEDIT_E_MEMORY", `Cannot open ${model.name}: out of memory`);
      const key = { ...model };
      held.add(key);
      most = Math.max(
        most,
        [...held].reduce((sum, { graph }) => sum + weightBytes(graph as Graph), 0),
      );
      const session = await engine.open(model);
      told.push(`opened ${name}`);
      return {
        async run(feeds) {
          told.push(`running ${name}`);
          const result = await session.run(feeds);
          told.push(`ran ${name}`);
          return result;
        },
        async dispose() {
          await session.dispose();
          if (held.delete(key)) told.push(`closed ${name}`);
        },
      };
    },
    dispose: async () => {},
  };
}

async function velocities(
  engine: Engine,
  vram: number | undefined,
  signal = new AbortController().signal,
): Promise<{ data: Float32Array[]; events: ProgressEvent[] }> {
  const events: ProgressEvent[] = [];
  const context = { engine, emit: (event: ProgressEvent) => void events.push(event), signal, vram };
  const latent = numbers([1, 16, 6, 8], 1);
  const data = await withTransformer(run, context, async (opened) => {
    const velocity = velocityOf(opened, conditions);
    const each: Float32Array[] = [];
    for (const sigma of SIGMAS)
      for (const which of ["positive", "negative"] as const) each.push(await velocity(latent.data, sigma, which));
    return each;
  });
  return { data, events };
}

function expectSame(given: readonly Float32Array[], wanted: readonly Float32Array[]): void {
  expect(given).toHaveLength(wanted.length);
  given.forEach((each, index) => expect(scaledError(each, wanted[index]!)).toBeLessThanOrEqual(TOLERANCE.network));
}

/** Claims that the events came in this order, whatever came between them. */
function inOrder(told: readonly string[], ...wanted: string[]): boolean {
  let from = 0;
  return wanted.every((each) => (from = told.indexOf(each, from) + 1) > 0);
}

test("the next group opens while one computes, and the numbers are those of the resident network", async () => {
  const whole = await velocities(direct, undefined);
  for (const engine of [direct, paired]) {
    const each = watched(engine);
    expectSame((await velocities(each, BOTH)).data, whole.data);
    expect(
      inOrder(
        each.told,
        "running 0",
        "opening 1",
        "ran 0",
        "closed 0",
        "running 1",
        "opening 2",
        "ran 1",
        "closed 1",
        "running 2",
      ),
    ).toBe(true);
    expect(each.told.filter((event) => event.startsWith("opening"))).toHaveLength(3 * SIGMAS.length);
  }
});

test("the plan's bytes are those of the two groups that are open at a time", async () => {
  const plan = planNetwork(needs, BOTH);
  expect(plan).toMatchObject({ opensAhead: true, isOverBudget: false });
  expect(plan.groups.map(({ isResident }) => isResident)).toEqual([false, false, false]);
  const engine = watched(paired);
  await velocities(engine, BOTH);
  expect(engine.most()).toBe(plan.peak - plan.activations);
  expect(engine.most()).toBeGreaterThan(Math.max(...plan.groups.map(({ bytes }) => bytes)));
});

test("where there is room for one group alone, one is open at a time", async () => {
  const plan = planNetwork(needs, 1);
  const engine = watched(paired);
  expectSame((await velocities(engine, 1)).data, (await velocities(direct, undefined)).data);
  expect(engine.most()).toBe(plan.peak - plan.activations);
});

test("a group that cannot open ahead opens when its turn comes, and so do the others", async () => {
  const engine = watched(direct, (_, open) => open > 0);
  const { data, events } = await velocities(engine, BOTH);
  expectSame(data, (await velocities(direct, undefined)).data);
  expect(events.filter(({ kind }) => kind === "warning")).toEqual([]);
  expect(events.flatMap((event) => (event.kind === "detail" ? [event.text] : []))).toEqual([
    expect.stringMatching(
      /^the transformer, blocks 1 to 1 is opened when its turn comes, and so are the others: .*out of memory$/,
    ),
  ]);
  expect(engine.told.filter((event) => event.startsWith("opening"))).toHaveLength(3 * SIGMAS.length + 1);
});

test("what stops a pass closes also the group that was opening", async () => {
  for (const stop of ["abort", "failure"] as const) {
    const controller = new AbortController();
    const inner = watched(paired);
    const engine: Engine = {
      ...inner,
      async open(model) {
        const session = await inner.open(model);
        return {
          ...session,
          async run(feeds) {
            if (stop === "abort") controller.abort(new Error("stopped"));
            const result = await session.run(feeds);
            if (stop === "failure" && model.name.startsWith("the transformer")) throw new Error("stopped");
            return result;
          },
        };
      },
    };
    await expect(velocities(engine, BOTH, controller.signal)).rejects.toThrow("stopped");
    const count = (what: string) => inner.told.filter((event) => event.startsWith(what)).length;
    expect(count("closed")).toBe(count("opened"));
    if (stop === "failure") expect(count("opening")).toBe(2);
  }
});
