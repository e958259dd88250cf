// Sessions that outlive their use: opened once while they are held, counted, and closed when they are let go.
import { afterAll, expect, test, vi } from "vitest";
import { keptEngine } from "../../src/edit/kept-engine.js";
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

function watched(inner: Engine = engine) {
  const told: string[] = [];
  const emit = (event: ProgressEvent) =>
    void (event.kind === "session" && told.push(`${event.network} ${event.action}`));
  return { kept: keptEngine(inner, emit), told };
}

test("a session closes after its use unless it is held", async () => {
  const { kept, told } = watched();
  expect([await add(kept, 2), await add(kept, 2)]).toEqual([3, 3]);
  expect(told).toEqual(["sum with 2 opened", "sum with 2 closed", "sum with 2 opened", "sum with 2 closed"]);
});

test("held sessions are opened once for each graph, and closed by release", async () => {
  const { kept, told } = watched();
  kept.hold();
  expect([await add(kept, 2), await add(kept, 3), await add(kept, 2), await add(kept, 3)]).toEqual([3, 4, 3, 4]);
  expect(told).toEqual(["sum with 2 opened", "sum with 3 opened"]);
  await kept.release();
  expect(told.slice(2)).toEqual(["sum with 2 closed", "sum with 3 closed"]);
  await add(kept, 2);
  expect(told).toHaveLength(6);
});

test("two uses at a time get a session each", async () => {
  const { kept, told } = watched();
  kept.hold();
  await withSession(kept, await adding(2), async () => add(kept, 2));
  expect(told).toEqual(["sum with 2 opened", "sum with 2 opened"]);
  await kept.release();
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
  const { kept, told } = watched(narrow);
  kept.hold();
  expect([await add(kept, 2), await add(kept, 3)]).toEqual([3, 4]);
  expect(told).toEqual(["sum with 2 opened", "sum with 2 closed", "sum with 3 opened"]);
  await kept.release();
});

test("what is opened ahead goes to the next one that opens it, and closes after its use", async () => {
  const { kept, told } = watched();
  kept.openAhead(await adding(2));
  expect(await add(kept, 2)).toBe(3);
  expect(told).toEqual(["sum with 2 opened", "sum with 2 closed"]);
  await add(kept, 2);
  expect(told).toHaveLength(4);
});

test("what is opened ahead and not taken closes by its handle, or with the engine", async () => {
  const { kept, told } = watched({ ...engine, dispose: async () => {} });
  const opened = kept.openAhead(await adding(2));
  kept.openAhead(await adding(3));
  await vi.waitFor(() => expect(told).toHaveLength(2));
  await opened.close();
  await opened.close();
  expect(told).toEqual(["sum with 2 opened", "sum with 3 opened", "sum with 2 closed"]);
  const used = kept.openAhead(await adding(4));
  await add(kept, 4);
  await used.close();
  await kept.dispose();
  expect(told.slice(3)).toEqual(["sum with 4 opened", "sum with 4 closed", "sum with 3 closed"]);
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
  const { kept, told } = watched(narrow);
  await withSession(kept, await adding(2), async (session) => {
    kept.openAhead(await adding(3));
    await vi.waitFor(() => expect(told).toHaveLength(2));
    expect((await session.run({ x: float32([1], Float32Array.of(1)) }))["y"]!.data[0]).toBe(3);
  });
  expect(told).toEqual(["sum with 2 opened", "sum with 3 opened", "sum with 3 closed", "sum with 2 closed"]);
});
