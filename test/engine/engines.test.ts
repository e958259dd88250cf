// All engines keep the contract; threads also leave the main thread free, and two of them do two things at a time.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type Engine, modelOf, withSession } from "../../src/engine/sessions/engine.js";
// A worker thread needs compiled JavaScript, which the build leaves in dist.
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { threadedEngine } from "../../src/engine/sessions/threaded.js";
import { Graph } from "../../src/graph/graph.js";
import { float32 } from "../../src/std/tensor.js";
import { affineModel, ENGINE_FAILURE, engineContract } from "./contract.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;

engineContract("the direct engine", () => directEngine(CPU));
engineContract("the threaded engine", async () => threadedEngine(CPU));
engineContract("the engine of two threads", async () => pairedEngine(CPU));

// Matrix products one after the other: about a second of computing on one core.
function longModel() {
  const graph = new Graph("long");
  let x = graph.input("x", "f32", [640, 640]);
  const start = x;
  for (let i = 0; i < 60; i++) x = x.matmul(start).mul(0.01);
  graph.output("y", x);
  return modelOf(graph, "none");
}

describe("the threaded engine", () => {
  let engine: Engine;
  beforeAll(() => {
    engine = threadedEngine(CPU);
  });
  afterAll(() => engine.dispose());

  test("lets the main thread tick while a long run computes", async () => {
    const session = await engine.open(await longModel());
    const ticks: number[] = [];
    const timer = setInterval(() => ticks.push(performance.now()), 5);
    ticks.push(performance.now());
    await session.run({ x: float32([640, 640], new Float32Array(640 * 640).fill(0.1)) });
    ticks.push(performance.now());
    clearInterval(timer);
    await session.dispose();
    const whole = ticks.at(-1)! - ticks[0]!;
    const longest = Math.max(...ticks.slice(1).map((time, index) => time - ticks[index]!));
    expect(whole, "a run that is long enough to tell").toBeGreaterThan(200);
    // A thread that computes itself shows one pause as long as the run.
    expect(longest).toBeLessThan(whole / 2);
  });

  test("keeps code and hint of a failure across the thread", async () => {
    // Reads as 4 TiB: no machine of this test's has them.
    const graph = new Graph("huge");
    const huge = graph.input("x", "f32", ["n", 1]).add(graph.input("z", "f32", [1, "m"]));
    graph.output("y", huge);
    const side = 2 ** 20;
    await withSession(engine, await modelOf(graph, "none"), async (session) => {
      await expect(session.run({ x: float32([side, 1]), z: float32([1, side]) })).rejects.toMatchObject({
        code: "QEDIT_E_MEMORY",
        message: "Cannot run huge on cpu: out of memory",
        hint: "Try a smaller picture: --megapixels 0.5",
      });
    });
  });

  test("answers requests that are under way together, each its own", async () => {
    const session = await engine.open(affineModel());
    const results = await Promise.all([1, 2, 3].map((rows) => session.run({ x: float32([rows, 3]) })));
    expect(results.map(({ y }) => y?.shape)).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
    await session.dispose();
  });

  test("refuses requests after it was disposed", async () => {
    const other = threadedEngine(CPU);
    const session = await other.open(affineModel());
    await other.dispose();
    await expect(other.open(affineModel())).rejects.toMatchObject({
      ...ENGINE_FAILURE,
      message: expect.stringMatching(/^The engine stopped: /),
    });
    await expect(session.run({ x: float32([1, 3]) })).rejects.toMatchObject(ENGINE_FAILURE);
  });

  test("can be disposed before anything was opened", async () => {
    await expect(threadedEngine(CPU).dispose()).resolves.toBeUndefined();
  });
});

describe("the engine of two threads", () => {
  /** Times of events, in the order in which they came. */
  async function order(events: Readonly<Record<string, Promise<unknown>>>): Promise<string[]> {
    const came: string[] = [];
    await Promise.all(Object.entries(events).map(([name, event]) => event.then(() => came.push(name))));
    return came;
  }

  test("opens and runs a session while another one computes", async () => {
    const engine = pairedEngine(CPU);
    const long = await engine.open(await longModel());
    const running = long.run({ x: float32([640, 640], new Float32Array(640 * 640).fill(0.1)) });
    const short = engine.open(affineModel()).then(async (session) => {
      const { y } = await session.run({ x: float32([1, 3]) });
      await session.dispose();
      return y;
    });
    expect(await order({ running, short })).toEqual(["short", "running"]);
    expect(await short).toEqual(float32([1, 3], Float32Array.of(1, 1, 1)));
    // The first thread is free again.
    await withSession(engine, affineModel(), (session) => session.run({ x: float32([2, 3]) }));
    await engine.dispose();
  });

  test("leaves no thread behind, also when it is disposed while sessions open", async () => {
    const threads = () => process.getActiveResourcesInfo().filter((name) => name === "MessagePort").length;
    const before = threads();
    const engine = pairedEngine(CPU);
    const opening = Promise.allSettled([engine.open(await longModel()), engine.open(affineModel())]);
    expect(threads()).toBe(before + 2);
    await engine.dispose();
    await opening;
    expect(threads()).toBe(before);
    await expect(engine.open(affineModel())).rejects.toMatchObject(ENGINE_FAILURE);
  });
});
