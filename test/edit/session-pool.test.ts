// Sessions that outlive their use: opened once while they are held, counted, and closed when they are let go.
import { afterAll, expect, test, vi } from "vitest";
import { type PoolOptions, sessionPool } from "../../src/edit/service/session-pool.js";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { type Engine, modelOf, withSession } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { QeditError } from "../../src/std/errors.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { float32 } from "../../src/std/tensor.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => engine.dispose());

const adding = (addend: number) => {
  const graph = new Graph(`the sum with ${addend}`);
  graph.output("y", graph.input("x", "f32", ["n"]).add(addend));
  return modelOf(graph, "none");
};

async function add(to: Engine, addend: number): Promise<number> {
  return withSession(to, await adding(addend), async (session) =>
    Number((await session.run({ x: float32([1], Float32Array.of(1)) }))["y"]!.data[0]),
  );
}

function watched(inner: Engine = engine, options: Partial<PoolOptions> = {}) {
  const told: string[] = [];
  const emit = (event: ProgressEvent) =>
    void (event.kind === "session" && told.push(`${event.network} ${event.action}`));
  return { pool: sessionPool(inner, { ...options, emit }), told };
}

test("a session closes after its use unless it is held", async () => {
  const { pool, told } = watched();
  expect([await add(pool, 2), await add(pool, 2)]).toEqual([3, 3]);
  expect(told).toEqual([
    "the sum with 2 opened",
    "the sum with 2 closed",
    "the sum with 2 opened",
    "the sum with 2 closed",
  ]);
});

test("held sessions are opened once for each graph, and closed by release", async () => {
  const { pool, told } = watched();
  const release = pool.retain();
  expect([await add(pool, 2), await add(pool, 3), await add(pool, 2), await add(pool, 3)]).toEqual([3, 4, 3, 4]);
  expect(told).toEqual(["the sum with 2 opened", "the sum with 3 opened"]);
  await release();
  expect(told.slice(2)).toEqual(["the sum with 2 closed", "the sum with 3 closed"]);
  await add(pool, 2);
  expect(told).toHaveLength(6);
});

test("two uses at a time share one session, which closes after the last", async () => {
  const { pool, told } = watched();
  expect(
    await withSession(pool, await adding(2), async () => Promise.all([add(pool, 2), add(pool, 2), add(pool, 3)])),
  ).toEqual([3, 3, 4]);
  expect(told.filter((event) => event.startsWith("the sum with 2"))).toEqual([
    "the sum with 2 opened",
    "the sum with 2 closed",
  ]);
});

test("runs of one session follow each other", async () => {
  const running = { now: 0, most: 0 };
  const counting: Engine = {
    ...engine,
    async open(model) {
      const session = await engine.open(model);
      return {
        ...session,
        async run(feeds) {
          running.most = Math.max(running.most, ++running.now);
          await new Promise((resolve) => setTimeout(resolve, 5));
          return session.run(feeds).finally(() => (running.now -= 1));
        },
      };
    },
  };
  const { pool } = watched(counting);
  expect(await Promise.all([add(pool, 2), add(pool, 2), add(pool, 2)])).toEqual([3, 3, 3]);
  expect(running.most).toBe(1);
});

test("a session stays open for the time that the pool keeps it, counted from its last use", async () => {
  const { pool, told } = watched(engine, { keepAlive: 60 });
  await add(pool, 2);
  await add(pool, 2);
  expect(told).toEqual(["the sum with 2 opened"]);
  await vi.waitFor(() => expect(told).toEqual(["the sum with 2 opened", "the sum with 2 closed"]));
});

test("within a budget the least recently used session goes first, and none that is in use", async () => {
  // A weight beside the sum, which ONNX Runtime never sees.
  const heavy = async (addend: number) => {
    const model = await adding(addend);
    (model.graph as Graph).external("weight", { file: "none", offset: 0, length: 1024, dtype: "f32", shape: [256] });
    return model;
  };
  const { pool, told } = watched(engine, { keepAlive: 60_000, budget: 2048 });
  const use = async (addend: number) => (await pool.open(await heavy(addend))).dispose();
  await use(1);
  await use(2);
  await use(1);
  await use(3);
  expect(told).toEqual([
    "the sum with 1 opened",
    "the sum with 2 opened",
    "the sum with 2 closed",
    "the sum with 3 opened",
  ]);
  const leased = await pool.open(await heavy(1));
  await use(4);
  expect(told.slice(4)).toEqual(["the sum with 3 closed", "the sum with 4 opened"]);
  await leased.dispose();
  await pool.closeIdle();
});

test("a session that is leased while the one before it is closing stays open", async () => {
  let finish = () => {};
  const closing = new Promise<void>((resolve) => (finish = resolve));
  const slow: Engine = {
    ...engine,
    async open(model) {
      const session = await engine.open(model);
      return { ...session, dispose: () => closing.then(() => session.dispose()) };
    },
  };
  const { pool, told } = watched(slow, { keepAlive: 60_000 });
  expect([await add(pool, 2), await add(pool, 3)]).toEqual([3, 4]);
  const closed = pool.closeIdle();
  const leased = await pool.open(await adding(3));
  finish();
  await closed;
  expect(told.filter((event) => event.endsWith("closed"))).toEqual(["the sum with 2 closed"]);
  expect((await leased.run({ x: float32([1], Float32Array.of(1)) }))["y"]!.data[0]).toBe(4);
  await leased.dispose();
  await pool.closeIdle();
});

test("a session whose engine failed is not given to the next", async () => {
  let isBroken = true;
  const failing: Engine = {
    ...engine,
    async open(model) {
      const session = await engine.open(model);
      return {
        ...session,
        async run(feeds) {
          if (isBroken) throw new QeditError("QEDIT_E_ENGINE", "The engine ended");
          return session.run(feeds);
        },
      };
    },
  };
  const { pool, told } = watched(failing, { keepAlive: 60_000 });
  await expect(add(pool, 2)).rejects.toThrow("The engine ended");
  isBroken = false;
  expect(await add(pool, 2)).toBe(3);
  expect(told.filter((event) => event.endsWith("opened"))).toHaveLength(2);
  await pool.closeIdle();
});

test("when memory runs out while opening, what is kept for later goes first", async () => {
  let open = 0;
  // An engine with room for one session.
  const narrow: Engine = {
    ...engine,
    async open(model) {
      if (open > 0) throw new QeditError("QEDIT_E_MEMORY", "Cannot open: out of memory");
      open += 1;
      const session = await engine.open(model);
      return { run: (feeds) => session.run(feeds), dispose: () => ((open -= 1), session.dispose()) };
    },
  };
  const { pool, told } = watched(narrow);
  const release = pool.retain();
  expect([await add(pool, 2), await add(pool, 3)]).toEqual([3, 4]);
  expect(told).toEqual(["the sum with 2 opened", "the sum with 2 closed", "the sum with 3 opened"]);
  await release();
});

test("what is opened ahead goes to the next one that opens it, and closes after its use", async () => {
  const { pool, told } = watched();
  pool.openAhead(await adding(2));
  expect(await add(pool, 2)).toBe(3);
  expect(told).toEqual(["the sum with 2 opened", "the sum with 2 closed"]);
  await add(pool, 2);
  expect(told).toHaveLength(4);
});

test("what is opened ahead and not taken closes by its handle, or with the engine", async () => {
  const { pool, told } = watched({ ...engine, dispose: async () => {} });
  const opened = pool.openAhead(await adding(2));
  pool.openAhead(await adding(3));
  await vi.waitFor(() => expect(told).toHaveLength(2));
  await opened.close();
  await opened.close();
  expect(told).toEqual(["the sum with 2 opened", "the sum with 3 opened", "the sum with 2 closed"]);
  const used = pool.openAhead(await adding(4));
  await add(pool, 4);
  await used.close();
  await pool.dispose();
  expect(told.slice(3)).toEqual(["the sum with 4 opened", "the sum with 4 closed", "the sum with 3 closed"]);
});

test("when memory runs out in a run, what was opened ahead goes, and the run is made once more", async () => {
  let open = 0;
  // An engine with room to run while one session is open.
  const narrow: Engine = {
    ...engine,
    async open(model) {
      const session = await engine.open(model);
      open += 1;
      return {
        async run(feeds) {
          if (open > 1) throw new QeditError("QEDIT_E_MEMORY", "Cannot run: out of memory");
          return session.run(feeds);
        },
        dispose: () => ((open -= 1), session.dispose()),
      };
    },
  };
  const { pool, told } = watched(narrow);
  await withSession(pool, await adding(2), async (session) => {
    pool.openAhead(await adding(3));
    await vi.waitFor(() => expect(told).toHaveLength(2));
    expect((await session.run({ x: float32([1], Float32Array.of(1)) }))["y"]!.data[0]).toBe(3);
  });
  expect(told).toEqual([
    "the sum with 2 opened",
    "the sum with 3 opened",
    "the sum with 3 closed",
    "the sum with 2 closed",
  ]);
});
