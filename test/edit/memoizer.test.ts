// What a service keeps from edit to edit beside sessions: graphs, up to so many bytes, and the tokenizer.
import { expect, test } from "vitest";
import { memoizer } from "../../src/edit/service/context.js";

function counted(most: number) {
  const made: string[] = [];
  const memoize = memoizer(most);
  const graph = (key: string) =>
    memoize(key, async () => {
      made.push(key);
      return { bytes: new Uint8Array(40) };
    });
  return { made, memoize, graph };
}

test("graphs are made once, and those that were used last are kept", async () => {
  const { made, graph } = counted(100);
  for (const key of ["a", "b", "a", "c", "a", "b"]) await graph(key);
  expect(made).toEqual(["a", "b", "c", "b"]);
});

test("what is no graph stays, however many graphs come", async () => {
  const { made, memoize, graph } = counted(100);
  const tokenizer = {};
  await memoize("tokenizer", async () => tokenizer);
  for (const key of ["a", "b", "c", "d"]) await graph(key);
  expect(await memoize("tokenizer", async () => ({}))).toBe(tokenizer);
  expect(made).toHaveLength(4);
});

test("a graph that two ask for at a time is made once, and a failure is tried again", async () => {
  const { made, memoize, graph } = counted(100);
  await Promise.all([graph("a"), graph("a")]);
  expect(made).toEqual(["a"]);
  await expect(memoize("b", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(await memoize("b", async () => 2)).toBe(2);
});
