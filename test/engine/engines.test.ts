// All engines pass the contract suite; those in a thread or process leave the main thread free, and pairs open while they run.
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { childEngine } from "../../src/engine/sessions/child.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type Engine, type KeptTensors, modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { threadedEngine } from "../../src/engine/sessions/threaded.js";
import { Graph } from "../../src/graph/graph.js";
import { float32, given } from "../../src/std/tensor.js";
import { ENGINE_FAILURE, engineContract } from "./contract.js";
import { affineModel, longModel } from "./models.js";

const CPU = { provider: "cpu", index: 0, threads: 1 } as const;

engineContract("the direct engine", () => directEngine(CPU));
engineContract("the threaded engine", async () => threadedEngine(CPU));
engineContract("the engine in a child process", async () => childEngine(CPU));
engineContract("the engine of two threads", async () => pairedEngine(CPU));
engineContract("the engine of two child processes", async () => pairedEngine(CPU, childEngine));

test("the memory of a tensor that is given goes to the engine's thread, and none else", async () => {
  const engine = threadedEngine(CPU);
  await withSession(engine, affineModel(), async (session) => {
    const x = float32([1, 3], Float32Array.of(1, 2, 3));
    await session.run({ x });
    expect(x.data).toHaveLength(3);
    await session.run(given({ x }));
    expect(x.data).toHaveLength(0);
    await expect(session.run(given({ x }))).rejects.toThrow('internal: "x" was given away before');
    expect((await session.run({ x: float32([1, 3]) }))["y"]).toEqual(float32([1, 3], Float32Array.of(1, 1, 1)));
  });
  await engine.dispose();
});

describe.each([
  ["the threaded engine", threadedEngine],
  ["the engine in a child process", childEngine],
])("%s", (_, start) => {
  let engine: Engine;
  beforeAll(() => {
    engine = start(CPU);
  });
  afterAll(() => engine.dispose());

  test("leaves the main thread free during a long run", async () => {
    const { model, feeds } = await longModel(60);
    const session = await engine.open(model);
    let ticks = 0;
    const timer = setInterval(() => (ticks += 1), 5);
    const start = performance.now();
    await session.run(feeds);
    const whole = performance.now() - start;
    clearInterval(timer);
    await session.dispose();
    expect(whole, "a run that takes long enough").toBeGreaterThan(200);
    // A main thread that computes has none; a busy machine leaves some out.
    expect(ticks).toBeGreaterThan(5);
  });

  test("keeps the code and hint of a failure", async () => {
    // The output takes 4 TiB.
    const graph = new Graph("huge");
    const huge = graph.input("x", "f32", ["n", 1]).add(graph.input("z", "f32", [1, "m"]));
    graph.output("y", huge);
    const side = 2 ** 20;
    await withSession(engine, await modelOf(graph, "none"), async (session) => {
      await expect(session.run({ x: float32([side, 1]), z: float32([1, side]) })).rejects.toMatchObject({
        code: "QEDIT_E_MEMORY",
        message: "Cannot run huge on cpu: out of memory",
        hint: "Try a smaller picture: megapixels 0.5",
      });
    });
  });

  test("returns to each of several concurrent runs its own outputs", async () => {
    const session = await engine.open(affineModel());
    const results = await Promise.all([1, 2, 3].map((rows) => session.run({ x: float32([rows, 3]) })));
    expect(results.map(({ y }) => y?.shape)).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
    await session.dispose();
  });

  test("refuses requests after dispose", async () => {
    const other = start(CPU);
    const session = await other.open(affineModel());
    await other.dispose();
    await expect(other.open(affineModel())).rejects.toMatchObject({
      ...ENGINE_FAILURE,
      message: expect.stringMatching(/^The engine stopped: its (thread|process) ended with 0$/),
    });
    await expect(session.run({ x: float32([1, 3]) })).rejects.toMatchObject(ENGINE_FAILURE);
  });

  test("can be disposed before a session is opened, and twice at the same time", async () => {
    const other = start(CPU);
    await expect(Promise.all([other.dispose(), other.dispose()])).resolves.toBeDefined();
  });
});

describe.each([
  ["two threads", threadedEngine, "MessagePort"],
  ["two child processes", childEngine, "ProcessWrap"],
])("the engine of %s", (_, start, resource) => {
  test("opens and runs a session while another one runs", async () => {
    const engine = pairedEngine(CPU, start);
    // Start both first: only the runs are compared.
    for (const session of await Promise.all([engine.open(affineModel()), engine.open(affineModel())]))
      await session.dispose();
    const { model, feeds } = await longModel(60);
    const long = await engine.open(model);
    const ended: string[] = [];
    const running = long.run(feeds).then(() => ended.push("long"));
    const short = await engine.open(affineModel());
    expect(await short.run({ x: float32([1, 3]) })).toEqual({ y: float32([1, 3], Float32Array.of(1, 1, 1)) });
    await short.dispose();
    ended.push("short");
    await running;
    expect(ended).toEqual(["short", "long"]);
    // The first one is idle again.
    await withSession(engine, affineModel(), (session) => session.run({ x: float32([2, 3]) }));
    await engine.dispose();
  });

  test("moves what one keeps to the other, when a session there takes it", async () => {
    const engine = pairedEngine(CPU, start);
    const { model, feeds } = await longModel(30);
    const busy = await engine.open(model);
    const session = await engine.open(affineModel());
    const { y } = (await session.runKept!({ x: float32([1, 3]) }, "all")) as KeptTensors;
    const running = busy.run(feeds);
    const elsewhere = await engine.open(affineModel());
    expect(await elsewhere.run({ x: y! })).toEqual({ y: float32([1, 3], Float32Array.of(3, 3, 3)) });
    await running;
    expect(await elsewhere.run({ x: y! })).toEqual({ y: float32([1, 3], Float32Array.of(3, 3, 3)) });
    await y!.dispose();
    await engine.dispose();
  });

  test("ends both, also when it is disposed while sessions open", async () => {
    const running = async () => {
      await delay(1); // a turn of the event loop, at whose end closed handles go
      return process.getActiveResourcesInfo().filter((name) => name === resource).length;
    };
    const before = await running();
    const engine = pairedEngine(CPU, start);
    const { model } = await longModel(60);
    const opening = Promise.allSettled([engine.open(model), engine.open(affineModel())]);
    expect(await running()).toBe(before + 2);
    await engine.dispose();
    await opening;
    expect(await running()).toBe(before);
    await expect(engine.open(affineModel())).rejects.toMatchObject(ENGINE_FAILURE);
  });
});
