// Turns of a worker's messages: some at once, and the furthest on its way first.
import { expect, test } from "vitest";
import { Turns } from "../../../src/server/kafka/turns.js";

test("two are done at once, and of those that wait the highest rank that came first is next", async () => {
  const turns = new Turns(2);
  const [order, ends] = [[] as string[], [] as (() => void)[]];
  const take = (rank: number, name: string) =>
    turns.take(rank, () => {
      order.push(name);
      return new Promise<void>((end) => ends.push(end));
    });
  const all = [take(1, "a"), take(1, "b"), take(1, "late"), take(4, "first"), take(4, "second")];
  await Promise.resolve();
  expect(order).toEqual(["a", "b"]);
  for (let count = 3; count <= all.length; count++) {
    ends.shift()!();
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toHaveLength(count);
  }
  for (const end of ends) end();
  await Promise.all(all);
  expect(order).toEqual(["a", "b", "first", "second", "late"]);
});

test("work that fails makes room for the next", async () => {
  const turns = new Turns(1);
  await expect(turns.take(0, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  expect(await turns.take(0, async () => 7)).toBe(7);
});

test("work may end its turn before it ends, once", async () => {
  const turns = new Turns(1);
  const order: string[] = [];
  let end!: () => void;
  const first = turns.take(0, async (endTurn) => {
    endTurn();
    endTurn();
    await new Promise<void>((resolve) => {
      end = resolve;
    });
    order.push("first");
  });
  const others = [1, 2].map((number) =>
    turns.take(0, async () => {
      order.push(`begins ${number}`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`ends ${number}`);
    }),
  );
  await Promise.all(others);
  end();
  await first;
  expect(order).toEqual(["begins 1", "ends 1", "begins 2", "ends 2", "first"]);
});
